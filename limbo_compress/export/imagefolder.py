"""Image folder: a folder a label, for torchvision's ``ImageFolder`` and Hugging Face."""

from __future__ import annotations

import hashlib
import os
import re
import string
from collections import Counter
from collections.abc import Iterable, Set

from .exported_rows import Row
from .writers import CREDITS, Layout

__all__ = ["folder_names", "write"]

# Many filesystems allow 255 bytes, some encrypting ones less.
_LONGEST = 140
_WITHOUT_LABELS = "images"
_UPPERCASE = frozenset(string.ascii_uppercase)
_PLAIN = frozenset(string.ascii_letters + string.digits + "-_")
# Hugging Face takes a folder for a split if such a word is in its name, between these characters,
# and ignores folders that begin with two underscores (datasets 5.2, data_files.py).
_WORDS = "train|training|validation|valid|dev|val|test|testing|eval|evaluation"
_SPLIT = re.compile(f"(?<![^-_0-9])({_WORDS})(?![^-_0-9])")
_IGNORED = re.compile("^__")
# Windows: https://learn.microsoft.com/windows/win32/fileio/naming-a-file
_RESERVED = re.compile(rf"^(con|prn|aux|nul|com\d|lpt\d|{CREDITS})$", re.IGNORECASE | re.ASCII)


def write(folder: str, rows: Iterable[Row], layout: Layout) -> None:
    """Write the pictures of rows into a folder for each label or, without labels, into one.

    Each split gets a folder that holds those of the labels, the same in all splits: readers number
    the classes by them. A label that no row has gets none.
    """
    names: dict[str | None, str] = dict(folder_names(layout.classes).items())
    names = names or {None: _WITHOUT_LABELS}
    for split in layout.splits:
        for name in names.values():
            os.makedirs(os.path.join(folder, split, name))
    unused = set(names)
    for row in rows:
        assert row.picture is not None
        row.picture.write(os.path.join(folder, row.split, names[row.label], row.file_name))
        unused.discard(row.label)
    for split in layout.splits:
        for label in unused:
            os.rmdir(os.path.join(folder, split, names[label]))


def folder_names(labels: Iterable[str]) -> dict[str, str]:
    """Return a name for the folder of each label that is safe on every filesystem.

    No two names differ in case only. None is reserved by Windows or for `CREDITS`, or means a split
    to Hugging Face. `urllib.parse.unquote` returns the label, unless it is so long that it had to
    be cut.

    Examples
    --------
    >>> list(folder_names(["48Y", "../a b", "", "30B dev", "small", "Small"]).values())
    ['48Y', '%2E%2E%2Fa%20b', '%', '30B%20de%76', 'small', '%53mall']
    """
    names = {label: _quoted(label, _PLAIN) for label in labels}
    alike = Counter(name.lower() for name in names.values())
    return {
        label: name if alike[name.lower()] == 1 else _quoted(label, _PLAIN - _UPPERCASE)
        for label, name in names.items()
    }


def _quoted(label: str, plain: Set[str]) -> str:
    name = "".join(char if char in plain else _escaped(char) for char in label)
    for misread in (_SPLIT, _IGNORED, _RESERVED):
        name = misread.sub(lambda match: match[0][:-1] + _escaped(match[0][-1]), name)
    if len(name) > _LONGEST:
        digest = hashlib.sha256(label.encode("utf-8", "surrogatepass")).hexdigest()
        # Before a plain hyphen, what is left of a cut word might be a split.
        name = f"{name[: _LONGEST - 19]}%2D{digest[:16]}"
    return name or "%"


def _escaped(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode("utf-8", "surrogatepass"))
