"""A data card: Markdown for people, with the front matter that Hugging Face reads.

Its keys: https://github.com/huggingface/hub-docs/blob/main/datasetcard.md
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..dataset.citations import OWNER, PAPER, RULES, TERMS, report
from ..dataset.credits import citation
from ..dataset.dataset import Dataset
from ..errors import shown
from ..oserrors import machine_errors
from .description import Description, counted, describe, write_text

__all__ = ["write_card"]

# Of each kind, more would hide the rest; CREDITS of an export has all that is to be credited.
_MOST = 100
_MAX_CELL = 300
# What Markdown gives a meaning within a line.
_SPECIAL = re.compile(r"([\\`*_~\[\]<>|&$#])")
_LINK = re.compile(r"https?://[\w.~/?#@!&'()*+,;=%:-]{1,250}", re.ASCII)
_SIZES = {10**3: "n<1K", 10**4: "1K<n<10K", 10**5: "10K<n<100K", 10**6: "100K<n<1M"}
_MILLIONS = "1M<n<10M"
_LOAD = """```python
from limbo_compress import load

dataset = load({prefixes})
```"""


@machine_errors()
def write_card(dataset: Dataset, path: str | os.PathLike[str]) -> str:
    """Write a data card: what the rows are, how they were made, whom to credit, what to mind.

    It is made of the index and needs no images. The same outputs give the same bytes.

    Parameters
    ----------
    dataset : Dataset
    path : path
        A file of this name is replaced.

    Returns
    -------
    str
        The path.

    Raises
    ------
    InputError
        If the outputs cannot be read.
    OutputError
        If the file cannot be written.
    """
    path = os.fsdecode(path)
    found = describe(dataset)
    write_text(path, "".join(f"{line}\n" for line in (*_front(found), *_body(found))))
    return path


def _front(found: Description) -> Iterator[str]:
    """Write the front matter. JSON is YAML, too."""
    limit = next((limit for limit in _SIZES if found.rows < limit), 0)
    facts: dict[str, Any] = {
        "pretty_name": found.name,
        **_license(found),
        "size_categories": [_SIZES.get(limit, _MILLIONS)],
        "task_categories": [
            task
            for task, is_possible in {
                "image-classification": found.categories,
                "object-detection": found.boxes,
                "image-segmentation": found.mattes or found.contours,
            }.items()
            if is_possible
        ],
        "tags": ["limbo", "nuclear-safeguards", *(["synthetic"] if found.synthetic else [])],
    }
    yield "---"
    for key, value in facts.items():
        if value:
            yield f"{key}: {json.dumps(value, ensure_ascii=False)}"
    yield "---"


def _license(found: Description) -> dict[str, str]:
    named = [name for (name,) in found.credits.groups(1) if name]
    if not found.is_limbo and not named:
        return {"license": "unknown"}
    are_renders = not named and found.synthetic == found.rows
    if are_renders and all(name and report(name) for name in found.campaigns):
        return {"license": "other", "license_name": "limbo-terms-of-use", "license_link": TERMS}
    return {"license": "other", "license_name": "see-licenses-and-credits"}


def _body(found: Description) -> Iterator[str]:
    yield f"\n# {_plain(found.name)}\n"
    yield f"{found.text}\n"
    rows = [
        [_plain(os.path.basename(file.path)), " × ".join(map(str, file.shape)), file.dtype]
        for file in found.files
    ]
    sizes = [f"{file.bytes:,}" for file in found.files]
    table = [[*row, size] for row, size in zip(rows, sizes, strict=True)]
    yield from _table(["file", "shape", "type", "bytes"], table)
    yield "\nRead them with [limbo-compress](https://limbo-compress.github.io/limbo-compress/):\n"
    names = list(found.prefixes)
    yield _LOAD.format(prefixes=json.dumps(names[0] if len(names) == 1 else names))
    yield "\n## How it was made"
    for line, command in found.made:
        yield f"\n```bash\n{line}" + (f"\n{command}" if command else "") + "\n```"
    yield "\n## What is in it"
    if len(found.prefixes) > 1:
        yield from _counts("prefix", found.prefixes)
    campaigns = {name or "(not known)": n for name, n in found.campaigns.items()}
    yield from _counts("campaign", campaigns)
    if found.categories:
        yield from _counts("category", found.categories)
        yield "\nA row counts once for each of its categories."
    yield "\n## Licenses and credits\n"
    yield from _credits(found)
    yield "\n## Citations\n"
    yield from (f"- {_plain(citation(name))}" for name in found.campaigns)
    yield f"\nLimbo's [terms of use]({TERMS}):\n"
    yield from (f"- {rule}" for rule in RULES)
    yield f"\nFor Limbo's synthetic images: {OWNER}\n\n{PAPER}"
    yield "\n## Known limits\n"
    yield from (f"- {limit}" for limit in found.limits or ["None is known."])


def _credits(found: Description) -> Iterator[str]:
    groups = found.credits.groups(0, 1, 2)
    first = list(groups.items())[:_MOST]
    table = [
        [*(_plain(text or "not given") for text in said), f"{len(rows):,}"] for said, rows in first
    ]
    yield from _table(["copyright", "license", "license at", "rows"], table)
    if len(groups) > len(first):
        yield f"\nand {len(groups) - len(first):,} more."
    yield "\nExports list each row with its source in their file CREDITS."


def _counts(name: str, counts: Mapping[str, int]) -> Iterator[str]:
    yield ""
    rows = [[_plain(text), f"{count:,}"] for text, count in counted(counts, _MOST)]
    yield from _table([name, "rows"], rows)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    for row in (heads, ["---"] * len(heads), *rows):
        yield f"| {' | '.join(row)} |"


def _plain(text: str) -> str:
    """Write a text of any kind as Markdown that shows it; an address as a link."""
    line = shown(text, _MAX_CELL)
    return f"<{line}>" if _LINK.fullmatch(line) else _SPECIAL.sub(r"\\\1", line)
