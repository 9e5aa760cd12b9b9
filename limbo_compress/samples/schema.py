"""What a sample's metadata may say: the files that it names, its labels, its annotations."""

from __future__ import annotations

import os
from typing import Any

from .. import limits
from ..errors import SampleError

__all__ = ["Metadata", "cryptomatte_section", "own_file", "strip_regions"]

Metadata = dict[str, Any]


def own_file(metadata_path: str, section: Any, what: str) -> str:
    """Path of a file that a section of a sample's metadata names, in the folder of the metadata.

    The section is the value of ``image`` or ``synthetic.cryptomatte``; `what` is its name, for
    errors.

    Raises
    ------
    SampleError
        If the section names no file, or one outside the sample's folder.
    """
    name = section.get("filename") if isinstance(section, dict) else None
    if not isinstance(name, str) or not name:
        raise SampleError(f"its metadata has no {what}.filename", metadata_path)
    if name in (os.curdir, os.pardir) or "/" in name or os.sep in name or "\0" in name:
        raise SampleError(
            f"{what}.filename {name!r} is not a plain file name in the sample's folder",
            metadata_path,
        )
    return os.path.join(os.path.dirname(metadata_path), name)


def cryptomatte_section(metadata: Metadata, path: str) -> dict[str, Any] | None:
    """Return the section ``synthetic.cryptomatte``, or None if the sample has none.

    Its ``manifest`` has the labels: a list of str or, as Cryptomatte itself has it, a dict of each
    label's id by the label. The ids say nothing that the labels do not.

    Raises
    ------
    SampleError
        If the manifest is neither, or has too many labels.
    """
    synthetic = metadata.get("synthetic")
    section = synthetic.get("cryptomatte") if isinstance(synthetic, dict) else None
    if section is None:
        return None
    labels = section.get("manifest") if isinstance(section, dict) else None
    if (
        not isinstance(section, dict)
        or not isinstance(labels, list | dict)
        or not all(isinstance(label, str) for label in labels)
    ):
        problem = "its synthetic.cryptomatte.manifest is neither a list nor an object of labels"
        raise SampleError(problem, path)
    if len(labels) > limits.LABELS:
        problem = f"its synthetic.cryptomatte.manifest has {len(labels):,} labels"
        raise SampleError(f"{problem}, the limit is {limits.LABELS:,}", path)
    return section


def strip_regions(metadata: Metadata, path: str) -> Metadata:
    """Copy metadata with one annotation ``{"category": ...}`` for each distinct category.

    The categories are in the order in which they first appear.

    Raises
    ------
    SampleError
        If the annotations are not a list of objects, or a category is not a plain value.
    """
    annotations = metadata.get("annotations", [])
    try:
        categories = dict.fromkeys(annotation.get("category") for annotation in annotations)
    except (AttributeError, TypeError) as error:
        raise SampleError(
            "its annotations are not a list of objects with a category", path
        ) from error
    return metadata | {"annotations": [{"category": category} for category in categories]}
