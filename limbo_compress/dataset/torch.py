"""Rows of a `limbo_compress.Dataset` as tensors for PyTorch, and the seed tutorial's augmentation.

Only this module imports torch; ``pip install 'limbo-compress[torch]'`` brings what it needs.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import data
from torch.utils.data._utils.collate import default_collate_fn_map

from .. import names
from ..errors import UsageError
from .dataset import search_categories
from .rows import srgb_table

try:
    from . import _planes as compiled
except ImportError:  # installed without a C compiler, or for another kind of CPU
    compiled = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .dataset import Dataset
    from .rows import Rows

    _Array = NDArray[Any] | Rows

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "Samples",
    "TorchDataset",
    "augmentation",
    "collate",
    "srgb_table",
]

# Of ImageNet's RGB values in [0, 1], sRGB-encoded.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_COLORS = ("linear", "srgb")
_Classes = Collection[str] | Mapping[str, str]


class Samples(data.Dataset[Any]):
    """A map-style dataset over the rows of another; `limbo_compress.Dataset.torch` makes one.

    An item is the image alone, or a tuple of the image and what else was asked for, in this order:

    - the image, ``(3, H, W)``;
    - the masks, ``(masks, H, W)``;
    - the labels, ``(labels,)`` float32, or with `boxes` a target for detection:
      ``{"boxes": (n, 4) float32, "labels": (n,) int64}``. Boxes are x1, y1, x2, y2 in pixels of
      the row. Classes count from 1, because 0 is the background in torchvision's detectors.

    Every tensor is contiguous and in memory of its own, which the items of a batch share.

    Parameters
    ----------
    dataset : Dataset
        Must have images.
    labels : set of str, dict of str to str, or array of shape (rows, labels), optional
        What `limbo_compress.Dataset.labels` takes, or its result. With `boxes` it selects the
        classes: a set makes one class, a dict one for each of its regular expressions. By default,
        every category is a class, in alphabetical order. A box that matches several classes
        belongs to the first; one that matches none is left out.
    masks : sequence of str
        Names of masks.
    boxes : bool
        Whether items have a target for detection. Its ``DataLoader`` needs `collate`.
    color : {"linear", "srgb"}
        Linear light, as stored, or sRGB, as networks pretrained on ImageNet expect.
    dtype : torch.dtype, optional
        Of images and masks; float32 by default.
    transform : callable, optional
        Applied to the image, or with `tv_tensors` to all parts of the item together.
    tv_tensors : bool
        Whether images, masks and boxes are torchvision's ``tv_tensors``.

    Raises
    ------
    UsageError
        If the dataset has no such part, or if torchvision is needed and missing.
    """

    def __init__(
        self,
        dataset: Dataset,
        labels: _Classes | NDArray[Any] | None = None,
        masks: Sequence[str] = (),
        boxes: bool = False,
        color: str = "linear",
        dtype: torch.dtype | None = None,
        transform: Callable[..., Any] | None = None,
        tv_tensors: bool = False,
    ) -> None:
        _check(dataset, masks, color)
        if tv_tensors:
            _import_tv_tensors()
        self.dataset = dataset
        self.masks = tuple(masks)
        self.color = color
        self.dtype = dtype or torch.float32
        self.transform = transform
        self.tv_tensors = tv_tensors
        self.classes = _classes(dataset, labels) if boxes else None
        self.labels = None if boxes or labels is None else _label_rows(dataset, labels)
        self._buffers = _Buffers()

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, row: int) -> Any:
        """Read the item of a row. A negative row counts from the end."""
        return self.__getitems__([row])[0]

    def __getitems__(self, rows: Sequence[int]) -> list[Any]:
        """Read the items of a batch in the order of the file, and return them as asked for."""
        every = range(len(self))
        wanted = [every[row] for row in rows]
        images = [self.dataset.rows(names.IMAGES)]
        parts = [_read(images, wanted, self.color, self.dtype, self._buffers)]
        if self.masks:
            masks = [self.dataset.rows(names.mask_array(name)) for name in self.masks]
            parts.append(_read(masks, wanted, "linear", self.dtype, self._buffers))
        return [
            self._item([*pixels, *self._answer(row)])
            for row, *pixels in zip(wanted, *parts, strict=True)
        ]

    def _answer(self, row: int) -> list[Any]:
        """What a network should say of a row, if that was asked for."""
        if self.classes is not None:
            return [_target(self.dataset, row, self.classes)]
        return [] if self.labels is None else [self.labels[row].clone()]

    def _item(self, parts: list[Any]) -> Any:
        if self.tv_tensors:
            parts = self._as_tv_tensors(parts)
        if self.transform and self.tv_tensors:
            return self.transform(*parts)
        if self.transform:
            parts[0] = self.transform(parts[0])
        return _Item(parts) if len(parts) > 1 else parts[0]

    def _as_tv_tensors(self, parts: list[Any]) -> list[Any]:
        tv_tensors = _import_tv_tensors()
        parts[0] = tv_tensors.Image(parts[0])
        if self.masks:
            parts[1] = tv_tensors.Mask(parts[1])
        if self.classes is not None:
            boxes, size = parts[-1]["boxes"], tuple(parts[0].shape[-2:])
            parts[-1]["boxes"] = tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=size)
        return parts


class _Item(tuple[Any, ...]):
    """A tuple that PyTorch's ``default_collate`` hands to `collate`."""

    __slots__ = ()


def collate(items: Sequence[Any], *, collate_fn_map: object = None) -> Any:
    """Join items into a batch as PyTorch does, but leave targets for detection a list.

    Samples have different numbers of boxes, so their targets cannot be stacked. Detectors take
    a list. A batch that was read at once is not copied.

    Parameters
    ----------
    items : sequence
        Items of `Samples`.
    collate_fn_map : object
        What ``default_collate`` passes; not used.

    Returns
    -------
    Tensor or list
        Each part of the items: tensors stacked, targets as a list.
    """
    if isinstance(items[0], tuple):
        return [_join(column) for column in zip(*items, strict=True)]
    return _join(items)


# As its documentation says, this is how a type gets a collate function of its own.
default_collate_fn_map.update({_Item: collate})


def _join(parts: Sequence[Any]) -> Any:
    """Stack tensors; those that follow each other in memory, as `_read` makes them, are joined."""
    first = parts[0]
    if isinstance(first, dict):
        return list(parts)
    if type(first) is Tensor and _follow_each_other(parts):
        return first.as_strided((len(parts), *first.shape), (first.numel(), *first.stride()))
    return data.default_collate(list(parts))


def _follow_each_other(tensors: Sequence[Tensor]) -> bool:
    first = tensors[0]
    start, storage = first.data_ptr(), first.untyped_storage().data_ptr()
    return all(
        tensor.data_ptr() == start + place * first.nbytes
        and tensor.untyped_storage().data_ptr() == storage
        and tensor.is_contiguous()
        and tensor.shape == first.shape
        and tensor.dtype == first.dtype
        for place, tensor in enumerate(tensors)
    )


@cache
def _srgb_table_of_floats() -> NDArray[np.float32]:
    return srgb_table().astype(np.float32)


class _Buffers:
    """Memory for batches. What no tensor uses any more is used again.

    The system gives fresh memory page by page, which takes as long as filling it.
    """

    _MOST = 4

    def __init__(self) -> None:
        self._buffers: list[NDArray[np.uint8]] = []

    def __reduce__(self) -> tuple[type[_Buffers], tuple[()]]:
        return type(self), ()  # each process has its own

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Return a tensor whose values are not set, aligned for the compiled code."""
        size = math.prod(shape) * dtype.itemsize
        buffer = self._take(size)
        start = -buffer.ctypes.data % _ALIGNMENT
        return torch.from_numpy(buffer[start : start + size]).view(dtype).reshape(shape)

    def _take(self, size: int) -> NDArray[np.uint8]:
        # Buffers leave the list while they are looked at: another thread cannot take the same one.
        for _ in range(len(self._buffers)):
            buffer = self._buffers.pop(0)
            is_free = sys.getrefcount(buffer) == _REFERENCES and len(buffer) == size + _ALIGNMENT
            self._buffers.append(buffer)
            if is_free:
                return buffer
        buffer = np.empty(size + _ALIGNMENT, np.uint8)
        self._buffers = [*self._buffers[1 - self._MOST :], buffer]
        return buffer


# Of a buffer that no tensor uses: the variable that holds it, and the argument of `getrefcount`.
_REFERENCES = 2
_ALIGNMENT = 64


def _read(
    arrays: Sequence[_Array], rows: Sequence[int], color: str, dtype: torch.dtype, buffers: _Buffers
) -> Tensor:
    """Read rows of arrays, in the order of the file, to a tensor of shape (rows, C, H, W).

    The channels of the arrays follow each other.
    """
    height, width, channels = arrays[0].shape[1:]
    batch = buffers.empty((len(rows), len(arrays), channels, height, width), dtype)
    for place in sorted(range(len(rows)), key=rows.__getitem__):
        for planes, array in zip(batch[place], arrays, strict=True):
            _copy(array[rows[place]], color, planes)
    return batch.flatten(1, 2)


def _copy(row: NDArray[Any], color: str, planes: Tensor) -> None:
    """Copy an (H, W, C) row of an array to (C, H, W) planes."""
    if compiled and row.dtype == np.float16 and planes.dtype == torch.float32:
        table = _srgb_table_of_floats() if color == "srgb" else None
        compiled.fill_planes(row, table, planes.numpy())
        return
    if color == "srgb":
        # Every index is in the table: "clip" only spares numpy the check.
        row = srgb_table().take(row.view(np.uint16), mode="clip")
    # Transposing as float16 and converting then is twice as fast as both at once.
    planes.copy_(torch.from_numpy(row.transpose(2, 0, 1).copy()))


def _check(dataset: Dataset, masks: Sequence[str], color: str) -> None:
    if dataset.images is None:
        raise UsageError("the dataset has no images", hint="compress it with `images`")
    missing = [name for name in masks if name not in dataset.masks]
    if missing:
        present = ", ".join(dataset.masks) or "none"
        raise UsageError(f"the dataset has no mask {missing[0]!r}; its masks: {present}")
    if color not in _COLORS:
        raise UsageError(f"color is {color!r}, expected one of {', '.join(_COLORS)}")


def _import_tv_tensors() -> Any:
    try:
        from torchvision import tv_tensors
    except (ImportError, RuntimeError) as error:  # RuntimeError: built for another torch
        raise UsageError(f"tv_tensors need torchvision: {error}") from error
    return tv_tensors


def _label_rows(dataset: Dataset, labels: _Classes | NDArray[Any]) -> Tensor:
    rows = labels if isinstance(labels, np.ndarray) else dataset.labels(labels)
    if len(rows) != len(dataset):
        raise UsageError(f"there are labels for {len(rows)} rows, but {len(dataset)} samples")
    return torch.tensor(rows, dtype=torch.float32)


def _classes(dataset: Dataset, labels: _Classes | NDArray[Any] | None) -> dict[str, int]:
    """Class number of each category that belongs to a class."""
    categories = sorted(dataset.count())
    if labels is None:
        return {category: number for number, category in enumerate(categories, 1)}
    if isinstance(labels, np.ndarray):
        raise UsageError("the classes of boxes are a set of categories or a dict of patterns")
    if not isinstance(labels, Mapping):
        return dict.fromkeys([labels] if isinstance(labels, str) else labels, 1)
    found: dict[str, int] = {}
    for number, pattern in reversed(list(enumerate(labels.values(), 1))):
        found |= dict.fromkeys(search_categories(pattern, categories), number)
    return found


def _target(dataset: Dataset, row: int, classes: Mapping[str, int]) -> dict[str, Tensor]:
    boxes, numbers = [], []
    for category, xyxy in dataset.boxes(row):
        number = classes.get(category or "")
        if number is not None:
            boxes.append(xyxy)
            numbers.append(number)
    return {
        "boxes": torch.from_numpy(np.array(boxes, np.float32).reshape(-1, 4)),
        "labels": torch.tensor(numbers, dtype=torch.int64),
    }


def augmentation(training: bool = True) -> nn.Module:
    """The seed tutorial's augmentation, for batches on any device.

    Each image of a batch is normalized with ImageNet's statistics. For training it is then
    rotated by up to 90°, scaled by 0.8 to 1.2, sheared by up to 20° and flipped left to right
    half of the time, each image by random values of its own. What comes in from outside of the
    image has ImageNet's mean colour.

    Parameters
    ----------
    training : bool
        Whether to do more than normalize.

    Returns
    -------
    torch.nn.Module
        Takes and returns a tensor of float, shape (n, 3, H, W).

    Raises
    ------
    UsageError
        If kornia is not installed.
    """
    try:
        from kornia import augmentation as kornia
    except ModuleNotFoundError as error:
        raise UsageError(
            "augmentation needs kornia", hint="pip install 'limbo-compress[torch]'"
        ) from error
    steps = [kornia.Normalize(IMAGENET_MEAN, IMAGENET_STD)]
    if training:
        # After normalization, the zeros that fill the outside are ImageNet's mean.
        affine = kornia.RandomAffine(90.0, scale=(0.8, 1.2), shear=20.0, p=1.0)
        steps += [affine, kornia.RandomHorizontalFlip()]
    return nn.Sequential(*steps)


class TorchDataset(data.Dataset[tuple[Tensor, Tensor, Tensor]]):
    """The map-style dataset of the reference's seed tutorial.

    An item is ``(image, augmented_image, label)``: the image as stored, the same image after
    `augmentation`, and its label. On a GPU it is faster to apply `augmentation` to whole batches
    of `Samples` there.

    Parameters
    ----------
    labels : array of shape (rows, labels)
    images : array of float16, shape (rows, H, W, 3)
        `limbo_compress.Dataset.images`, for example.
    training : bool
        Whether images are augmented at random, or only normalized.

    Raises
    ------
    UsageError
        If the lengths differ, or if kornia is not installed.
    """

    def __init__(
        self, labels: NDArray[Any], images: NDArray[Any] | Rows, training: bool = True
    ) -> None:
        if len(labels) != len(images):
            raise UsageError(f"there are {len(labels)} labels for {len(images)} images")
        self.labels = torch.tensor(np.asarray(labels), dtype=torch.float32)
        self.images = images
        self.augment = augmentation(training)
        self._buffers = _Buffers()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor, Tensor]:
        """Read and augment one row."""
        return self.__getitems__([row])[0]

    def __getitems__(self, rows: Sequence[int]) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Read the rows of a batch in the order of the file, and augment them together."""
        every = range(len(self))
        wanted = [every[row] for row in rows]
        images = _read([self.images], wanted, "linear", torch.float32, self._buffers)
        parts = zip(images, self.augment(images), self.labels[wanted], strict=True)
        return [_Item(item) for item in parts]
