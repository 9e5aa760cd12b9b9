"""Whether a row of existing images shows the image of a sample."""

from __future__ import annotations

from dataclasses import replace

from ..errors import SampleError, output_errors
from ..options import Options
from ..output.existing import RowCheck
from ..samples.reader import SampleReader

__all__ = ["shows_image"]

# The reference rounds in other places; images that differ do so by far more.
_TOLERANCE = 0.01


def shows_image(check: RowCheck, options: Options) -> bool:
    """Whether the row shows the sample's image, or nobody can tell since that is unreadable now.

    Parameters
    ----------
    check : RowCheck
    options : Options
        Those about decoding are used.

    Raises
    ------
    OutputError
        If the row cannot be read.
    """
    import numpy as np  # here because the coordinator starts faster without them

    from ..imaging.image import convert

    with output_errors(check.array):
        existing = np.array(np.load(check.array, mmap_mode="r")[check.row])
    row = np.empty_like(existing)
    with SampleReader(replace(options, images=True, masks=()), [check.sample]) as reader:
        try:
            image = reader.next().image
            assert image is not None  # it is asked for
            convert(image.data, image.path, options, row)
        except SampleError:
            return True
    return bool(np.allclose(row, existing, rtol=0, atol=_TOLERANCE))
