"""Rows of a `limbo_compress.Dataset` as tensors for PyTorch, and the seed tutorial's augmentation.

Only this module imports torch; ``pip install 'limbo-compress[torch]'`` brings what it needs.
"""

from __future__ import annotations

import math
import resource
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import data
from torch.utils.data._utils.collate import default_collate_fn_map

from . import filenames
from .array_kinds import IMAGES
from .dataset.block_sampler import BlockSampler
from .dataset.classes import Wanted, find_classes, listed, meant, warn, warn_unseen
from .dataset.prefetch import prefetch
from .dataset.row_views import read_ahead, stored_rows
from .dataset.srgb import linear_values, srgb, srgb8, srgb_table
from .errors import InputError, UsageError, missing_extra, shown
from .formats.geometry import inside

try:
    from .dataset import _planes as compiled
except ImportError:  # installed without a C compiler, or for another kind of CPU
    compiled = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from .dataset.dataset import Dataset
    from .dataset.row_views import Array, Ints

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "BlockSampler",
    "Samples",
    "TorchDataset",
    "augmentation",
    "collate",
    "prefetch",
    "srgb_table",
]

# Of ImageNet's RGB values in [0, 1], sRGB-encoded.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# Rows in which boxes are looked for, before training on nothing.
_MOST_LOOKED_AT = 100
_COLORS = ("linear", "srgb")
_MEMORY_FORMATS = (torch.contiguous_format, torch.channels_last)
_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


class Samples(data.Dataset[Any]):
    """A map-style dataset over the rows of another; `limbo_compress.Dataset.torch` makes one.

    An item is the image alone, or a tuple of the image and what else was asked for, in this order:

    - the image, ``(3, H, W)``;
    - the masks, ``(masks, H, W)``;
    - with `known_masks`, whether the masks are known, a bool of shape ``()``;
    - the labels, ``(labels,)`` float32, or with `boxes` a target for detection:
      ``{"boxes": (n, 4) float32, "labels": (n,) int64}``. Boxes are x1, y1, x2, y2 in pixels of
      the row, cut off at its edges; one of which nothing is left is left out. Classes count
      from 1, because 0 is the background in torchvision's detectors.

    A slice or a list of numbers gives a batch, as `collate` makes it.

    Every tensor is contiguous, unless `memory_format` says otherwise, and in memory of its own,
    which the items of a batch share.

    Parameters
    ----------
    dataset : Dataset
        Must have images.
    labels : set of str, dict of str to str or set, or array_like of shape (rows,) or (rows, labels)
        What `limbo_compress.Dataset.labels` takes, or numbers for each row, also as a tensor or
        a list. With `boxes` it selects the classes: a set makes one class, a dict one for each of
        its labels. A box that matches several classes belongs to the first; one that
        matches none is left out. Optional.
    masks : str or sequence of str
        Names of masks.
    boxes : bool
        Whether items have a target for detection. Its ``DataLoader`` needs `collate`.
    color : {"linear", "srgb"}
        Linear light, as stored, or sRGB, as networks pretrained on ImageNet expect.
    dtype : torch.dtype, optional
        Of images and masks: a floating point type, float32 by default, or uint8, for which values
        from 0 to 1 are rounded to 0 to 255.
    transform : callable, optional
        Applied to the image, or with `tv_tensors` to all parts of the item together.
    tv_tensors : bool
        Whether images, masks and boxes are torchvision's ``tv_tensors``.
    classes : iterable of str, or dict of str to int, optional
        With `boxes`: the categories that are classes, in the order of their numbers; or the
        `classes` of other samples, for the same numbers. By default,
        `limbo_compress.Dataset.box_classes`, which is the same for all views of the same prefixes.
    memory_format : torch.memory_format, optional
        Of batches of images: ``torch.contiguous_format`` by default, or ``torch.channels_last``,
        as they are stored.
    known_masks : bool
        Whether items have a flag that is false where `limbo_compress.Dataset.has_matte` is: there,
        the zeros of all masks are unknown. Otherwise, a warning says how many such rows there are.

    Attributes
    ----------
    classes : dict of str to int, or None
        With `boxes`: the number of each category that belongs to a class.

    Raises
    ------
    UsageError
        If the dataset has no such part, if an argument is not understood, or if torchvision is
        needed and missing.
    InputError
        With `known_masks`, if there are no metadata that tell.
    """

    def __init__(
        self,
        dataset: Dataset,
        labels: Wanted | ArrayLike | None = None,
        masks: str | Sequence[str] = (),
        boxes: bool = False,
        color: str = "linear",
        dtype: torch.dtype | None = None,
        transform: Callable[..., Any] | None = None,
        tv_tensors: bool = False,
        classes: Iterable[str] | Mapping[str, int] | None = None,
        memory_format: torch.memory_format | None = None,
        known_masks: bool = False,
    ) -> None:
        self.dataset = dataset
        self.masks = (masks,) if isinstance(masks, str) else tuple(masks or ())
        self.color = color
        self.dtype = torch.float32 if dtype is None else dtype
        self.transform = transform
        self.tv_tensors = tv_tensors
        self.memory_format = memory_format or torch.contiguous_format
        _check(dataset, self.masks, color, self.dtype, self.memory_format)
        if tv_tensors:
            _import_tv_tensors()
        if classes is not None and not (boxes and labels is None):
            raise UsageError("`classes` go with `boxes`, and without `labels`")
        if isinstance(labels, Iterator):
            labels = list(labels)
        self.classes = _class_numbers(dataset, labels, classes) if boxes else None
        self._merges = labels is not None
        self.labels = None
        if labels is not None and not boxes:
            rows: Any = dataset.labels(labels) if _is_wanted(labels) else labels
            self.labels = _number_rows(rows, len(dataset))
        if known_masks and not self.masks:
            raise UsageError("`known_masks` is a flag of masks, and none are asked for in `masks`")
        self.known_masks = torch.from_numpy(dataset.has_matte) if known_masks else None
        if self.masks and not known_masks:
            _warn_of_unknown_masks(dataset)
        self._image_reader, self._mask_reader = _Reader(), _Reader()

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, row: Any) -> Any:
        """Read the item of a row, or a batch of rows. A negative row counts from the end."""
        return _item_or_batch(self, row)

    def __getitems__(self, rows: Iterable[int]) -> list[Any]:
        """Read the items of a batch in the order of the file, and return them as asked for."""
        every = range(len(self))
        wanted = [every[row] for row in rows]
        images = [self.dataset.rows(filenames.IMAGES)]
        to_srgb = self.color != IMAGES.color
        planar = self.memory_format == torch.contiguous_format
        parts = [self._image_reader.read(images, wanted, self.dtype, to_srgb, planar)]
        if self.masks:
            masks = [self.dataset.rows(filenames.mask_array(name)) for name in self.masks]
            parts.append(self._mask_reader.read(masks, wanted, self.dtype))
        if self.known_masks is not None:
            parts.append(self.known_masks[wanted])
        if self.classes is not None:
            targets = (_target(self.dataset, row, self.classes, self._merges) for row in wanted)
            return [self._item([*item]) for item in zip(*parts, targets, strict=True)]
        if self.labels is not None:
            parts.append(self.labels[wanted])
        return [self._item([*item]) for item in zip(*parts, strict=True)]

    def _item(self, parts: list[Any]) -> Any:
        if self.tv_tensors:
            parts = self._as_tv_tensors(parts)
        if self.transform and self.tv_tensors:
            return self._transformed(parts)
        if self.transform:
            parts[0] = self.transform(parts[0])
        return _BatchItem(parts) if len(parts) > 1 else parts[0]

    def _transformed(self, parts: list[Any]) -> Any:
        assert self.transform is not None
        if self.classes is None or not self.masks:
            return self.transform(*parts)
        # torchvision's SanitizeBoundingBoxes takes masks for those of the boxes, and drops some.
        hint = "leave `masks` out, or let it transform the image and the target only"
        try:
            item = self.transform(*parts)
        except (IndexError, ValueError) as error:
            problem = "the transform fails on masks with boxes, as SanitizeBoundingBoxes does"
            raise UsageError(f"{problem}: {shown(str(error))}", hint=hint) from error
        masks = item[1] if isinstance(item, tuple) and len(item) > 1 else None
        if isinstance(masks, Tensor) and masks.shape[:1] != (len(self.masks),):
            problem = "the transform dropped masks, as SanitizeBoundingBoxes does with boxes"
            raise UsageError(problem, hint=hint)
        return item

    def _as_tv_tensors(self, parts: list[Any]) -> list[Any]:
        tv_tensors = _import_tv_tensors()
        parts[0] = tv_tensors.Image(parts[0])
        if self.masks:
            parts[1] = tv_tensors.Mask(parts[1])
        if self.classes is not None:
            boxes, size = parts[-1]["boxes"], tuple(parts[0].shape[-2:])
            parts[-1]["boxes"] = tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=size)
        return parts


def _item_or_batch(samples: Samples | TorchDataset, key: Any) -> Any:
    """Read the item of a row or, for a slice, a list or a mask, a batch."""
    if not isinstance(key, slice) and not np.ndim(key):
        (item,) = samples.__getitems__([key])
        # Whoever keeps items one by one does not expect that a batch of them is their memory.
        return _Item(item) if isinstance(item, _BatchItem) else item
    if not isinstance(key, slice):
        # numpy takes an empty list for numbers with fractions
        key = np.asarray(key) if len(key) else slice(0)
    rows = np.arange(len(samples))[key]
    if rows.ndim != 1 or not len(rows):
        raise UsageError(f"rows of shape {rows.shape} make no batch")
    return collate(samples.__getitems__(rows.tolist()))


class _Item(tuple[Any, ...]):
    """A tuple that PyTorch's ``default_collate`` passes to `collate`."""

    __slots__ = ()


class _BatchItem(_Item):
    """One of the items of a batch, on its way to `collate`: nobody else has its memory."""

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
        is_batch = all(isinstance(item, _BatchItem) for item in items)
        return [_join(column, is_batch) for column in zip(*items, strict=True)]
    return _join(items)


# As its documentation says, this is how a type gets a collate function of its own.
default_collate_fn_map.update({_Item: collate, _BatchItem: collate})


def _join(parts: Sequence[Any], is_batch: bool = False) -> Any:
    """Stack tensors, unless those of a batch follow each other in memory, as batches have them."""
    first = parts[0]
    if isinstance(first, dict):
        return list(parts)
    if is_batch and type(first) is Tensor and _follow_each_other(parts):
        return first.as_strided((len(parts), *first.shape), (first.numel(), *first.stride()))
    return data.default_collate(list(parts))


def _follow_each_other(tensors: Sequence[Tensor]) -> bool:
    first = tensors[0]
    start, size, storage = first.data_ptr(), first.nbytes, first.untyped_storage()
    return start + size * len(tensors) <= storage.data_ptr() + storage.nbytes() and all(
        tensor.data_ptr() == start + place * size
        and tensor.stride() == first.stride()
        and tensor.shape == first.shape
        and tensor.dtype == first.dtype
        for place, tensor in enumerate(tensors)
    )


class _Buffers:
    """Memory for batches. What no tensor has any more is used again.

    The system gives fresh memory page by page, which takes as long as filling it.
    """

    def __init__(self) -> None:
        self._free: deque[NDArray[np.uint8]] = deque(maxlen=4)

    def __reduce__(self) -> tuple[type[_Buffers], tuple[()]]:
        return type(self), ()  # each process has its own

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Return a tensor whose values are not set, aligned for the compiled code."""
        size = math.prod(shape) * dtype.itemsize
        buffer = self._take(size + _ALIGNMENT)
        start = -buffer.ctypes.data % _ALIGNMENT
        # The storage of the tensor, and nothing else, holds this view as long as it lives.
        view = buffer[start : start + size]
        weakref.finalize(view, self._free.append, buffer).atexit = False
        return torch.from_numpy(view).view(dtype).reshape(shape)

    def _take(self, size: int) -> NDArray[np.uint8]:
        for _ in range(len(self._free)):
            try:
                buffer = self._free.popleft()
            except IndexError:  # another thread was faster
                break
            if len(buffer) == size:
                return buffer
            self._free.append(buffer)
        return np.empty(size, np.uint8)


_ALIGNMENT = 64


class _Reader:
    """Reads rows of arrays to batches."""

    def __init__(self) -> None:
        self._buffers = _Buffers()
        # Whether the last batch was read from storage, so that the next one probably is. Where rows
        # are in memory, `read_ahead` would add 5 µs to the 50 of each.
        self._is_cold = True

    def read(
        self,
        arrays: Sequence[Array],
        rows: Sequence[int],
        dtype: torch.dtype,
        to_srgb: bool = False,
        planar: bool = True,
    ) -> Tensor:
        """Read rows, in the order of the file, to a tensor of shape (rows, C, H, W).

        The channels of the arrays follow each other. Those of a pixel do in memory, unless the
        tensor is planar.
        """
        height, width, channels = arrays[0].shape[1:]
        shape = (channels, height, width) if planar else (height, width, channels)
        batch = self._buffers.empty((len(rows), len(arrays), *shape), dtype)
        before = _storage_reads()
        for array, pixels in zip(arrays, batch.unbind(1), strict=True):
            found = list(stored_rows(array, rows))
            for stored, numbers, _ in found if self._is_cold else ():
                read_ahead(stored, numbers)
            for part in found:
                _fill(*part, to_srgb, pixels if planar else pixels.permute(0, 3, 1, 2))
        self._is_cold = _storage_reads() != before
        return batch.flatten(1, 2) if planar else batch[:, 0].permute(0, 3, 1, 2)


def _storage_reads() -> int:
    """Count what this thread has read from storage, and where it had to wait for it."""
    usage = resource.getrusage(getattr(resource, "RUSAGE_THREAD", resource.RUSAGE_SELF))
    return usage.ru_inblock + usage.ru_majflt


def _fill(array: NDArray[Any], rows: Ints, places: Ints, to_srgb: bool, batch: Tensor) -> None:
    """Copy (H, W, C) rows of an array to places of a batch, shape (n, C, H, W)."""
    is_planar = batch.is_contiguous()
    memory = batch if is_planar else batch.permute(0, 2, 3, 1)
    if compiled and batch.dtype != torch.float64 and memory.is_contiguous() and _is_plain(array):
        compiled.fill_batch(
            array,
            np.ascontiguousarray(rows, np.int64),
            np.ascontiguousarray(places, np.int64),
            _table(to_srgb, batch.dtype),
            memory.view(torch.uint8).numpy(),
            math.prod(array.shape[1:3]),
            batch.itemsize,
            is_planar,
        )
        return
    for row, place in zip(rows.tolist(), places.tolist(), strict=True):
        # Transposing as float16 and converting then is twice as fast as both at once.
        planes = array[row].transpose(2, 0, 1).copy()
        batch[place].copy_(_encode(planes, to_srgb, batch.dtype))


def _is_plain(array: NDArray[Any]) -> bool:
    """Whether the compiled code takes an array: such as images in a file."""
    is_image = isinstance(array, np.ndarray) and array.dtype == np.float16 and array.shape[3] == 3
    return is_image and array.flags.c_contiguous and array.flags.aligned


@cache
def _table(to_srgb: bool, dtype: torch.dtype) -> NDArray[np.uint8] | None:
    """Return what every float16 becomes, by bit patterns; None if no table is needed."""
    if not to_srgb and dtype in (torch.float32, torch.float16):
        return None
    return _encode(linear_values(), to_srgb, dtype).to(dtype).view(torch.uint8).numpy()


def _encode(values: NDArray[Any], to_srgb: bool, dtype: torch.dtype) -> Tensor:
    """Return values in the color that is wanted and, for uint8, as levels."""
    if dtype != torch.uint8:
        return torch.from_numpy(srgb(values) if to_srgb else values)
    if to_srgb:
        return torch.from_numpy(srgb8(values))
    with np.errstate(invalid="ignore"):  # signaling NaNs
        light = np.nan_to_num(values.astype(np.float32)).clip(0, 1)
    return torch.from_numpy(np.rint(255 * light).astype(np.uint8))


def _check(
    dataset: Dataset,
    masks: Sequence[str],
    color: str,
    dtype: torch.dtype,
    memory_format: torch.memory_format,
) -> None:
    if dataset.images is None:
        raise UsageError("the dataset has no images", hint="compress it with `images`")
    if dtype not in (torch.uint8, *_FLOATS):
        named = ", ".join(map(str, (*_FLOATS, torch.uint8)))
        raise UsageError(
            f"values from 0 to 1 do not fit the dtype {dtype}, expected one of {named}"
        )
    missing = [name for name in masks if name not in dataset.masks]
    if missing:
        present = ", ".join(dataset.masks) or "none"
        raise UsageError(f"the dataset has no mask {missing[0]!r}; its masks: {present}")
    if color not in _COLORS:
        raise UsageError(f"color is {color!r}, expected one of {', '.join(_COLORS)}")
    if memory_format not in _MEMORY_FORMATS:
        expected = " or ".join(map(str, _MEMORY_FORMATS))
        raise UsageError(f"memory_format is {memory_format!r}, expected {expected}")


def _warn_of_unknown_masks(dataset: Dataset) -> None:
    """Warn if masks of any row are zeros only because it has no cryptomatte."""
    try:
        known = dataset.has_matte
    except InputError as error:
        warn(f"masks: it is not known which rows have a cryptomatte: {error.problem}")
        return
    if not known.all():
        warn(
            f"masks: {np.count_nonzero(~known):,} of {len(known):,} rows have no cryptomatte, so"
            " their masks are unknown, and not empty as their zeros say; leave them out with"
            " select(dataset.has_matte), or have them flagged with known_masks=True"
        )


def _import_tv_tensors() -> Any:
    try:
        from torchvision import tv_tensors
    except (ImportError, RuntimeError) as error:  # RuntimeError: built for another torch
        raise UsageError(f"tv_tensors need torchvision: {error}") from error
    return tv_tensors


def _number_rows(labels: ArrayLike, rows: int) -> Tensor:
    """Return labels, a number or several for each row, as float32."""
    try:
        given = labels if isinstance(labels, Tensor) else torch.from_numpy(np.array(labels))
    except (TypeError, ValueError) as error:
        raise UsageError(f"labels are neither categories nor numbers: {error}") from error
    if given.dim() == 0 or len(given) != rows:
        shape = "one number" if given.dim() == 0 else f"{len(given)} rows"
        raise UsageError(f"there are labels for {shape}, but {rows} samples")
    if given.is_complex() or np.ma.is_masked(labels):
        raise UsageError("labels are complex numbers, or some are masked")
    found = given.detach().to("cpu", torch.float32, copy=True)
    if not given.is_floating_point() and not torch.equal(found.to(given.dtype), given.cpu()):
        raise UsageError("labels are too large for float32")
    return found


def _is_wanted(labels: object) -> TypeGuard[Wanted]:
    """Whether these are categories or patterns. What holds numbers never is."""
    if isinstance(labels, str | Mapping):
        return True
    if hasattr(labels, "__array__") or not isinstance(labels, Iterable):
        return False
    return any(isinstance(item, str) for item in labels)


def _class_numbers(
    dataset: Dataset,
    labels: Wanted | ArrayLike | None,
    classes: Iterable[str] | Mapping[str, int] | None,
) -> dict[str, int]:
    """Return the number of each category that belongs to a class, from 1."""
    known = dataset.classes
    if labels is not None and not _is_wanted(labels):
        raise UsageError("the classes of boxes are a set of categories or a dict of patterns")
    if isinstance(classes, Mapping):
        if not all(isinstance(number, int) and number > 0 for number in classes.values()):
            raise UsageError(f"the numbers of classes count from 1: {shown(repr(dict(classes)))}")
        numbers: dict[str, int] = {}
        for name in listed(iter(classes)):
            numbers = dict.fromkeys(sorted(meant(name, known)), classes[name]) | numbers
    else:
        found = find_classes(dataset.box_classes if labels is None else known, labels, classes)
        numbers = {category: place + 1 for category, place in found.places.items()}
    if labels is not None or classes is not None:
        warn_unseen("boxes", list(numbers) if labels is None else labels, dataset)
    _warn_if_stripped(dataset)
    return numbers


def _warn_if_stripped(dataset: Dataset) -> None:
    """Warn if the prefixes have no boxes, as in metadata whose regions were left out."""
    whole = type(dataset)(dataset._sources)
    places = np.linspace(0, len(whole) - 1, min(len(whole), _MOST_LOOKED_AT), dtype=int)
    if len(places) and not any(
        isinstance(item, dict) and "bbox" in item
        for metadata in map(whole.abridged.__getitem__, places.tolist())
        for item in metadata.get("annotations") or ()
    ):
        count = len(places)
        warn(f"boxes: none of {count} rows has one; were the regions left out of the metadata?")


def _target(
    dataset: Dataset, row: int, classes: Mapping[str, int], merges: bool
) -> dict[str, Tensor]:
    """Return the boxes of a row and their classes, as exports have them.

    With labels, several categories may name the same object, which counts once.
    """
    size = dataset.row_size
    found: dict[tuple[int, object], NDArray[np.float64]] = {}
    for place, (category, xyxy) in enumerate(dataset.boxes(row)):
        corners = inside(xyxy, size)
        if corners is not None and category is not None and category in classes:
            key = (classes[category], corners.tobytes() if merges else place)
            found.setdefault(key, corners)
    return {
        "boxes": torch.from_numpy(np.array(list(found.values()), np.float32).reshape(-1, 4)),
        "labels": torch.tensor([number for number, _ in found], dtype=torch.int64),
    }


def augmentation(training: bool = True) -> nn.Module:
    """The seed tutorial's augmentation, for batches on any device.

    Each image of a batch is normalized with ImageNet's statistics. For training it is then
    rotated by up to 90°, scaled by 0.8 to 1.2, sheared by up to 20° along each axis and flipped
    left to right half of the time, each image by random values of its own. What comes in from
    outside of the image has ImageNet's mean color.

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
        raise missing_extra("augmentation needs kornia", "torch") from error
    steps = [kornia.Normalize(IMAGENET_MEAN, IMAGENET_STD)]
    if training:
        # After normalization, the zeros that fill the outside are ImageNet's mean.
        shear = (-20.0, 20.0, -20.0, 20.0)  # a single number would shear along x only
        affine = kornia.RandomAffine(90.0, scale=(0.8, 1.2), shear=shear, p=1.0)
        steps += [affine, kornia.RandomHorizontalFlip()]
    return nn.Sequential(*steps)


class TorchDataset(data.Dataset[tuple[Tensor, Tensor, Tensor]]):
    """The map-style dataset of the reference's seed tutorial.

    An item is ``(image, augmented_image, label)``: the image as stored, the same image after
    `augmentation`, and its label. On a GPU it is faster to apply `augmentation` to whole batches
    of `Samples` there.

    Parameters
    ----------
    labels : array_like or tensor, shape (rows,) or (rows, labels)
    images : array or tensor of floating point numbers, shape (rows, H, W, 3)
        `limbo_compress.Dataset.images`, for example.
    training : bool
        Whether images are augmented at random, or only normalized.

    Raises
    ------
    UsageError
        If the lengths differ, if these are not labels and images, or if kornia is not installed.
    """

    def __init__(self, labels: ArrayLike, images: Array | Tensor, training: bool = True) -> None:
        if isinstance(images, Tensor):
            given = images.detach().cpu()
            images = (given.float() if given.dtype is torch.bfloat16 else given).numpy()
        self.images = images
        shape: Any = getattr(images, "shape", ())
        dtype = getattr(self.images, "dtype", None)
        is_float = np.dtype(dtype).kind == "f" and np.dtype(dtype).isnative
        if len(shape) != 4 or shape[3] != 3 or not is_float:
            expected = "an array of floating point numbers, shape (rows, height, width, 3)"
            raise UsageError(
                f"images of shape {tuple(shape)} and dtype {dtype}, expected {expected}"
            )
        self.labels = _number_rows(labels, len(images))
        self.augment = augmentation(training)
        self._reader = _Reader()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: Any) -> Any:
        """Read and augment one row, or a batch of rows."""
        return _item_or_batch(self, row)

    def __getitems__(self, rows: Sequence[int]) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Read the rows of a batch in the order of the file, and augment them together."""
        every = range(len(self))
        wanted = [every[row] for row in rows]
        images = self._reader.read([self.images], wanted, torch.float32)
        parts = zip(images, self.augment(images), self.labels[wanted], strict=True)
        return [_BatchItem(item) for item in parts]
