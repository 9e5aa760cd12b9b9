"""Image folder: a folder a label, for torchvision's ``ImageFolder`` and Hugging Face."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from urllib.parse import quote

from .rows import Row

__all__ = ["folder_name", "write"]

# Many filesystems allow 255 bytes, some encrypting ones less.
_LONGEST = 140
_WITHOUT_LABELS = "images"


def write(
    folder: str, rows: Iterable[Row], labels: Sequence[str] | None, parts: Sequence[str]
) -> None:
    """Write the pictures of rows into a folder for each label.

    Parameters
    ----------
    folder : str
        An empty folder.
    rows : iterable of Row
        Those with a label, if there are any labels.
    labels : sequence of str, optional
        Each gets a folder, unless no row has it; by default, all pictures are in one.
    parts : sequence of str
        Each gets a folder that holds those of the labels, the same in all parts: readers number
        the classes by them.
    """
    names: dict[str | None, str] = {label: folder_name(label) for label in labels or ()}
    names = names or {None: _WITHOUT_LABELS}
    for part in parts:
        for name in names.values():
            os.makedirs(os.path.join(folder, part, name))
    unused = set(names)
    for row in rows:
        assert row.picture is not None
        row.picture.write(os.path.join(folder, row.part, names[row.label], row.file_name))
        unused.discard(row.label)
    for part in parts:
        for label in unused:
            os.rmdir(os.path.join(folder, part, names[label]))


def folder_name(label: str) -> str:
    """Return a name for the folder of a label that is safe on every filesystem.

    `urllib.parse.unquote` returns the label, unless it is so long that it had to be cut.

    Examples
    --------
    >>> folder_name("48Y"), folder_name("../a b"), folder_name("")
    ('48Y', '%2E%2E%2Fa%20b', '%')
    """
    name = quote(label, safe="", errors="surrogatepass").replace(".", "%2E").replace("~", "%7E")
    if len(name) > _LONGEST:
        digest = hashlib.sha256(label.encode("utf-8", "surrogatepass")).hexdigest()
        name = f"{name[: _LONGEST - 17]}-{digest[:16]}"
    return name or "%"
