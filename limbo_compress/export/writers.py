"""The formats: what each is made of, and what its module, the writer, gets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..dataset.credits import Credits
    from .exported_rows import Row

__all__ = ["CREDITS", "EXPORT_FORMATS", "FORMATS", "Format", "Layout", "Writer"]

# Without a suffix, readers of pictures, shards and folders leave it alone.
CREDITS = "CREDITS"


@dataclass(frozen=True)
class Layout:
    """How a writer arranges rows.

    Attributes
    ----------
    out : str
        Absolute path that the folder will have.
    classes : sequence of str
        The labels in the order of their numbers; empty if the rows have none.
    splits : sequence of str
        ``("train", "val")`` or ``("train", "val", "test")``; ``("",)`` if rows are not divided.
    with_contours : bool
        Whether YOLO gets contours instead of boxes.
    shard_size : int
        How many rows a shard of WebDataset has.
    table : callable
        Makes the table of the exported samples: columns by their names.
    credits : Credits
        Whom to credit for the rows.
    provenance : sequence of str
        The commands that would make the exported outputs again, as far as they are known.
    """

    out: str
    classes: Sequence[str]
    splits: Sequence[str]
    with_contours: bool
    shard_size: int
    table: Callable[[], dict[str, NDArray[Any]]]
    credits: Credits
    provenance: Sequence[str] = ()


class Writer(Protocol):
    """The function ``write`` of a format's module."""

    def __call__(self, folder: str, rows: Iterable[Row], layout: Layout) -> None:
        """Write the rows, in their order, into a folder that is empty."""


@dataclass(frozen=True)
class Format:
    """What a format needs.

    Attributes
    ----------
    description : str
    module : str
        Of this package, which writes it.
    libraries : tuple of str
        Of the extra ``[export]``.
    with_pictures, with_annotations, with_contours : bool
        What it is made of; contours of YOLO only, as others have them anyway.
    needs_metadata : bool
        Whether it makes no sense without them.
    by_label : bool
        Whether it has no place for rows without a label, if labels were asked for.
    with_shards : bool
        Whether its rows are in shards.
    with_split_folders : bool
        Whether each split is a folder that is of use without the others.
    """

    description: str
    module: str
    libraries: tuple[str, ...] = ("PIL", "pycocotools")
    with_pictures: bool = True
    with_annotations: bool = True
    with_contours: bool = False
    needs_metadata: bool = True
    by_label: bool = False
    with_shards: bool = False
    with_split_folders: bool = False

    def writer(self) -> Writer:
        """Import the writer, and with it the libraries that it needs."""
        writer: Writer = import_module(f".{self.module}", __package__).write
        return writer


_YOLO = Format("boxes for trainers of YOLO", "yolo", ("PIL", "pycocotools", "yaml"))
FORMATS = {
    "coco": Format("boxes and contours as JSON", "coco"),
    "yolo": _YOLO,
    "yolo-seg": replace(_YOLO, description="contours for these", with_contours=True),
    "parquet": Format(
        "tables of annotations and samples",
        "parquet",
        ("PIL", "pycocotools", "pyarrow"),
        with_pictures=False,
    ),
    "webdataset": Format("tar shards", "webdataset", needs_metadata=False, with_shards=True),
    "imagefolder": Format(
        "a folder for each label",
        "imagefolder",
        with_annotations=False,
        needs_metadata=False,
        by_label=True,
        with_split_folders=True,
    ),
}
EXPORT_FORMATS = {name: format.description for name, format in FORMATS.items()}
