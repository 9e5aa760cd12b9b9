"""What to cite of Limbo, by campaign, and the terms of its use.

All of it is from the section "Terms of Use" of Limbo's documentation, `TERMS`.
"""

from __future__ import annotations

import re

__all__ = ["OWNER", "PAPER", "RULES", "TERMS", "report"]

TERMS = "https://github.com/limbo-ml/user/blob/main/docs/data.ipynb"
RULES = (
    "Limbo may be used for non-commercial research and education only.",
    "With an image, cite the SAND report of its campaign.",
    "Photographs keep their own licenses: whoever publishes one must meet its license.",
)
OWNER = (
    "Copyright 2022 National Technology & Engineering Solutions of Sandia, LLC."
    " The U.S. Government has certain rights to the synthetic images."
)
PAPER = (
    'Gastelum, Z.N., Shead, T.M., and Rushdi, A., "A Large Safeguards-Informed Hybrid Imagery'
    ' Dataset for Computer Vision Research & Development." Proceedings of the Institute of Nuclear'
    " Materials Management and European Safeguards Research and Development Association Joint"
    " Annual Meeting, September 2021."
    " Available at: https://esarda.jrc.ec.europa.eu/esarda-43rd-joint-annual-meeting_en"
)
_RENDERS = {
    range(2, 6): "SAND2021-9615 O",
    range(6, 10): "SAND2022-0008 O",
    range(10, 13): "SAND2022-6864 O",
    range(13, 16): "SAND2022-9272 O",
    range(16, 21): "SAND2022-13738 O",
}
_PHOTOGRAPHS = {"ref": "SAND2022-0160 O", "ref-2": "SAND2022-10310 O"}


def report(campaign: str) -> str | None:
    """Return the number of a campaign's SAND report; None if the documentation names none.

    Examples
    --------
    >>> report("campaign17"), report("campaign-02"), report("ref"), report("campaign21")
    ('SAND2022-13738 O', 'SAND2021-9615 O', 'SAND2022-0160 O', None)
    """
    match = re.fullmatch(r"campaign-?0*(\d{1,9})", campaign, re.ASCII)
    if match is None:
        return _PHOTOGRAPHS.get(campaign)
    return next((sand for numbers, sand in _RENDERS.items() if int(match[1]) in numbers), None)
