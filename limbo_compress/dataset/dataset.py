"""A data set: some rows of the outputs of one or more prefixes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from numbers import Integral
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import filenames
from ..errors import InputError, UsageError, missing_extra, shown
from ..formats import geometry
from ..formats.geometry import Box, Contour
from ..formats.index import Source as SourceFile
from .classes import Wanted, listed, matching, warn, warn_unseen
from .conditions import meeting
from .groups import Groups, group_rows
from .row_views import Array, Ints, Items, MappedRows, Rows, locate, release, starts_of
from .source import Source
from .splits import Split, asked_for, check_seed, divide, far_off, shares_of, strata_of
from .table import FIXED, Column, column_of, names_of

if TYPE_CHECKING:
    import torch

    from ..torch import Samples

__all__ = ["Dataset", "Sample", "concat"]

Item = TypeVar("Item")
# Methods of `Metadata` that read something of a row.
_Read = Literal["sample", "abridged", "compact", "categories"]


class Sample(NamedTuple):
    """What the outputs have of one sample.

    Attributes
    ----------
    image : ndarray of float16, shape (height, width, 3), or None
    masks : dict of str to ndarray of float32, shape (height, width, 1)
    metadata : dict or None
    """

    image: NDArray[Any] | None
    masks: dict[str, NDArray[Any]]
    metadata: dict[str, Any] | None


class Dataset:
    """Some rows of the outputs of one or more prefixes. Row i of each belongs to the same sample.

    ``dataset[i]`` is the ``Sample`` of a row; ``dataset[2:5]`` is what `select` returns for these
    rows.

    `limbo_compress.load` makes one. It is cheap to pickle, as it holds prefixes and numbers of
    rows, and each process opens the files for itself.

    Whatever needs an output that is not there, such as metadata, raises an `InputError`. So it does
    if a file has been replaced since it was opened, as by compressing again under the same prefix:
    rows of two jobs are never mixed.

    Parameters
    ----------
    sources : sequence of Source
        The prefixes, one after the other.
    rows : ndarray of int, optional
        The rows, counted over all sources; by default all of them.
    """

    def __init__(self, sources: Sequence[Source], rows: Ints | None = None) -> None:
        self._sources = tuple(sources)
        self._selected = rows

    def __reduce__(self) -> tuple[Any, ...]:
        return Dataset, (self._sources, self._selected)

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        outputs = [*self.array_names, *(["metadata"] if self._has_metadata else [])]
        prefixes = ", ".join(source.prefix for source in self._sources)
        return f"<Dataset of {len(self)} rows of {prefixes}: {', '.join(outputs)}>"

    def __iter__(self) -> Iterator[Sample]:
        return map(self._row, range(len(self)))

    @overload
    def __getitem__(self, key: int) -> Sample: ...

    @overload
    def __getitem__(self, key: ArrayLike | slice) -> Dataset: ...

    def __getitem__(self, key: Any) -> Sample | Dataset:
        """Return the sample of a row or, for several rows, what `select` returns."""
        if isinstance(key, slice) or np.ndim(key):
            return self.select(key)
        return self._row(range(len(self))[key])

    def _repr_html_(self) -> str:
        from .notebook import sheet  # here because only notebooks need OpenCV

        return sheet(self)

    @property
    def row_numbers(self) -> Ints:
        """The number of each row among all rows of the prefixes, from 0; shape (rows,)."""
        return self._rows.copy()

    @property
    def prefixes(self) -> list[tuple[str, Dataset]]:
        """Each prefix as it was given to `load`, with all of its rows."""
        return [(source.given, Dataset([source])) for source in self._sources]

    @cached_property
    def array_names(self) -> tuple[str, ...]:
        """Names of the arrays that any of the prefixes has: ``images``, ``masks-NAME``."""
        return tuple(dict.fromkeys(name for source in self._sources for name in source.arrays))

    @property
    def row_size(self) -> tuple[int, int]:
        """Width and height of the rows, in pixels.

        Raises
        ------
        InputError
            If there are neither images nor masks.
        """
        if not self.array_names:
            raise InputError("without images or masks, the size of a row is not known")
        _, height, width, _ = self.rows(self.array_names[0]).shape
        return width, height

    @property
    def images(self) -> Array | None:
        """Images in linear light, float16, shape (rows, height, width, 3); None if there are none.

        A memory map if the rows are consecutive rows of one prefix, else
        `limbo_compress.dataset.row_views.Rows`, which become an array when they are indexed.
        """
        return self.map_rows(filenames.IMAGES) if filenames.IMAGES in self.array_names else None

    @property
    def masks(self) -> Mapping[str, Array]:
        """Masks by name: coverage from 0 to 1, float32, shape (rows, height, width, 1).

        Each is a memory map or an object that becomes an array when it is indexed, as `images`.
        """
        return _Masks(self.map_rows, self.array_names)

    @property
    def metadata(self) -> Items[dict[str, Any]] | None:
        """Metadata of each row; None if there are none. An item is read when it is asked for."""
        return self._items("sample") if self._has_metadata else None

    @property
    def abridged(self) -> Items[dict[str, Any]]:
        """Metadata of each row, where possible without the points of its contours.

        Several times as fast as `metadata`. A checksum of each 1000 points replaces them.
        Metadata without an index come in full.
        """
        return self._items("abridged")

    @property
    def compact(self) -> Items[dict[str, Any]]:
        """Metadata of each row for this package's exports and galleries, faster than `metadata`.

        Points of contours that are floats stay in the bytes of the pickle where there is an index;
        the functions that read boxes and contours take them so. Use `metadata` for all else.
        """
        return self._items("compact")

    @property
    def paths(self) -> Items[str]:
        """Absolute path of the metadata file of each row's sample, as it was found.

        Below the `root` that was given to `load`, if any. Metadata without an index do not say it.
        """
        return Items(self._rows, self._path)

    @property
    def campaigns(self) -> Items[str | None]:
        """Campaign of each row, as in `table`."""
        return Items(self._rows, self._campaign)

    @property
    def source_files(self) -> Items[tuple[SourceFile, ...]]:
        """Name, size in bytes and CRC-32 of each file that was read of a row's sample.

        They are in the folder of its metadata file. Empty if the metadata do not say it, as those
        of version 0.1.0 and of the reference.
        """
        return Items(self._rows, self._source_files)

    @property
    def categories(self) -> Items[frozenset[str]]:
        """Distinct categories of the annotations of each row."""
        return self._items("categories")

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of `table` in which any row has a value, parameters in alphabetical order."""
        return names_of(self._sources, self._rows)

    def table(self, columns: Iterable[str] | None = None) -> dict[str, NDArray[Any]]:
        """Return facts about the samples as columns, which ``pandas.DataFrame`` takes.

        Parameters
        ----------
        columns : iterable of str, optional
            By default, all `columns`.

            - ``row``: the `row_numbers`
            - ``path``, ``folder``: of the metadata file; ``campaign``: the last folder of the path
              that is named like ``campaign17``, ``campaign-17``, ``ref`` or ``ref-2``
            - ``width``, ``height``: of the source image, in pixels
            - ``license``, ``license_uri``, ``copyright``, ``uri``: what the provenance says
            - ``synthetic``, ``has_matte``: whether the sample was rendered, and whether it has a
              cryptomatte
            - ``boxes``, ``contours``: how many different ones the annotations have
            - names with a ``/`` in front, such as ``/camera/focal``: the parameters of the
              renderer that are one value

        Returns
        -------
        dict of str to ndarray, shape (rows,)
            Numbers are int64, or float64 if any is missing (NaN) or not an integer. What is true
            or false is bool, or an object array with None if any is missing. All else is an object
            array of str and None: values of several types, and integers that float64 would round
            or that have more than 64 bits, are written as in JSON.

        Raises
        ------
        UsageError
            If no sample of the prefixes has such a column.
        InputError
            If there are no metadata, or a path is asked for that they do not say.
        """
        names = self.columns if columns is None else columns
        names = [names] if isinstance(names, str) else list(names)
        return {name: self.column(name).array(FIXED.get(name)) for name in names}

    @property
    def has_matte(self) -> NDArray[np.bool_]:
        """Whether the sample of each row has a cryptomatte; shape (rows,).

        A row without one has zeros in all masks, whatever its image shows.
        """
        return self.column("has_matte").numbers.astype(bool)

    def where(self, *conditions: str) -> Dataset:
        """Return the rows that meet all conditions, which are as those of ``--where``.

        Parameters
        ----------
        *conditions : str
            A regular expression, or a set such as ``@type-48`` of `limbo_compress.vocabulary`: rows
            with a category in which it is found; with ``!`` in front, rows without one.
            ``NAME=PATTERN`` and ``NAME!=PATTERN``, where NAME is a column of `table`: rows whose
            whole value the regular expression matches, or does not. ``NAME=NUMBER``, ``!=``, ``<``,
            ``<=``, ``>`` and ``>=`` compare numbers. A row without a value meets ``!=`` only.

        Returns
        -------
        Dataset

        Raises
        ------
        UsageError
            If there is no such column, an expression is not valid, or values cannot be compared.
        InputError
            As by `table`.
        """
        meets = np.ones(len(self), bool)
        for condition in conditions:
            found, problem = meeting(self, condition)
            meets &= found
            if problem:
                warn(f"where {shown(condition)}: {problem}")
        return self.select(meets)

    def count(self) -> dict[str, int]:
        """Count the rows of each category, in the order of their names."""
        sets, ids = self._category_sets()
        counts: Counter[str] = Counter()
        for categories, rows in zip(sets, np.bincount(ids, minlength=len(sets)), strict=True):
            counts.update(dict.fromkeys(categories, int(rows)))
        return {category: rows for category, rows in sorted(counts.items()) if rows}

    @property
    def classes(self) -> tuple[str, ...]:
        """All categories of the prefixes, in alphabetical order.

        They do not depend on the chosen rows, so a category has one number in all views of the
        same prefixes, in exports of them, and in every process.
        """
        found = (source.metadata.category_sets for source in self._sources)
        return tuple(sorted(frozenset().union(*(names for sets in found for names in sets))))

    @property
    def category_sets(self) -> list[frozenset[str]]:
        """The distinct sets of categories that rows have."""
        sets, ids = self._category_sets()
        return [sets[number] for number in np.flatnonzero(np.bincount(ids)).tolist()]

    @property
    def box_classes(self) -> tuple[str, ...]:
        """The `classes` of which any annotation of the prefixes has a box or contours.

        All `classes`, tags as well, if none has, or if a prefix does not tell: metadata of version
        0.1.0 and of the reference.
        """
        indexes = [source.metadata.index for source in self._sources]
        found = [index.boxed_sets for index in indexes if index and index.boxed_sets is not None]
        if len(found) < len(indexes):
            return self.classes
        return tuple(sorted({name for sets in found for names in sets for name in names})) or (
            self.classes
        )

    def labels(self, wanted: Wanted) -> NDArray[np.float32]:
        """Make labels of categories: 1 where a row has one of them, else 0.

        What matches no category of the prefixes gets zeros, and a warning names it. So it does with
        names that are left out but may mean the same, such as 48 if 48G is wanted.

        Parameters
        ----------
        wanted : set of str, or dict of str to (str or set of str)
            Categories; or for each label categories, or a regular expression that is searched for
            in them. ``@type-48`` is a set of `limbo_compress.vocabulary`.

        Returns
        -------
        ndarray of float32, shape (rows, labels)
            A single label for a set of categories.

        Raises
        ------
        UsageError
            If an expression is not valid, a set is not known, or these are not categories.
        """
        if not isinstance(wanted, str | Mapping):
            wanted = listed(wanted)
        table = self.has_any(matching(wanted, self.classes))
        warn_unseen("labels", wanted, self)
        return table

    def has_any(self, labels: Sequence[frozenset[str]]) -> NDArray[np.float32]:
        """Make labels as `labels` does, but of a set of categories for each.

        Parameters
        ----------
        labels : sequence of frozenset of str

        Returns
        -------
        ndarray of float32, shape (rows, labels)
        """
        sets, ids = self._category_sets()
        table = [[not label.isdisjoint(categories) for label in labels] for categories in sets]
        return np.array(table, np.float32).reshape(len(sets), len(labels))[ids]

    def select(self, rows: ArrayLike | slice) -> Dataset:
        """Return the data set of some rows: a view, for which nothing is read.

        Parameters
        ----------
        rows : array_like of int or bool, shape (rows,), or slice
            Numbers of rows in any order, even repeated; or a mask of all rows.

        Returns
        -------
        Dataset

        Raises
        ------
        UsageError
            If there are no such rows.
        """
        key = rows if isinstance(rows, slice) else np.asarray(rows)
        if isinstance(key, np.ndarray) and key.size == 0:
            key = key.astype(np.intp)
        try:
            selected = self._rows[key]
        except IndexError as error:
            raise UsageError(f"these rows cannot be selected: {error}") from error
        if selected.ndim != 1:
            raise UsageError("select takes rows in one dimension, such as `labels[:, 0] == 1`")
        return Dataset(self._sources, selected)

    def groups(self, by: Groups) -> Ints:
        """Number the groups that rows belong to, such as the frames of a flight.

        Rows of a group show much the same. If some are trained on and others are tested on, the
        test says too much, so `split` and `folds` keep groups together.

        Parameters
        ----------
        by : str, array_like of shape (rows,), or tuple of these
            - ``folder``, ``campaign``, ``/background/env_map`` or any other column of `table`:
              rows with the same value
            - ``pair``: ``image_N`` and ``background_N`` of a folder
            - ``block:500``: stretches of 500 samples of a folder, in the order of their paths. The
              samples at both sides of an edge are neighbors still.
            - ``duplicate``: rows with equal images, also those of other prefixes
            - an array with a value for each row
            - a tuple of several of these: rows that share a group of any of them

        Returns
        -------
        ndarray of int, shape (rows,)
            Numbers from 0, in the order in which the groups are first there. A row without a
            value (None or NaN) is a group of its own; a warning counts these.

        Raises
        ------
        UsageError
            If there is no such column, no row has a value, or there is not one for each row.
        InputError
            If there are no images or paths to tell it, or they cannot be read.
        """
        return group_rows(self, by, warn)

    def split(
        self,
        *fractions: float,
        seed: int = 0,
        stratify: ArrayLike | Sequence[Hashable] | None = None,
        groups: Groups | None = None,
    ) -> Split:
        """Divide the rows at random into data sets, as for training and evaluation.

        Parameters
        ----------
        *fractions : float
            How much of the rows each one gets, of 1. After a single fraction, all others are a
            second one. Rows that several fractions leave over are in none.
        seed : int, optional
            The same seed divides the same rows in the same way.
        stratify : array_like, shape (rows,) or (rows, labels), optional
            Labels, or such as `categories`: rows with equal ones are divided by the fractions, too.
        groups : str, array_like of shape (rows,), or tuple of these, optional
            As `groups` takes it: rows of a group stay together. Sizes and balance are then about
            as asked. A warning says if a size is off by more than 10 % of the rows.

        Returns
        -------
        Split
            A tuple of views, with the rows in their order. Its ``describe()`` says their sizes.

        Raises
        ------
        UsageError
            If the fractions are not from 0 to 1 in sum, the seed is negative, there is not one
            label for each row, or there are fewer groups than data sets.
        InputError
            As by `groups`.
        """
        shares, count = shares_of(fractions), max(2, len(fractions))
        parts, numbers = self._divided("split", shares, count, seed, stratify, groups)
        asked = asked_for(shares, len(self))[:count]
        return self._split([parts == part for part in range(count)], asked, numbers)

    def folds(
        self,
        k: int,
        seed: int = 0,
        stratify: ArrayLike | Sequence[Hashable] | None = None,
        groups: Groups | None = None,
    ) -> list[Split]:
        """Divide the rows at random `k` times for cross-validation.

        Each row is in the second data set of one of these splits, and in the first of the others.

        Parameters
        ----------
        k : int
        seed, stratify, groups
            As `split` takes them.

        Returns
        -------
        list of Split
            Of two views each: to train on, and to evaluate on.

        Raises
        ------
        UsageError
            If `k` is not from 2 to the number of rows or groups, or as by `split`.
        InputError
            As by `groups`.
        """
        if not (isinstance(k, Integral) and 2 <= k <= len(self)):
            raise UsageError(f"folds takes a number from 2 to that of the rows, not {k!r}")
        shares = [1 / k] * int(k)
        parts, numbers = self._divided("folds", shares, int(k), seed, stratify, groups)
        return [
            self._split([parts != fold, parts == fold], [len(self) - asked, asked], numbers)
            for fold, asked in enumerate(asked_for(shares, len(self)))
        ]

    def boxes(self, row: int) -> list[Box]:
        """Return the distinct bounding boxes of a row, in pixels of the row.

        A box whose metadata do not say `bbox_mode` is left out, with a warning.

        Returns
        -------
        list of Box

        Raises
        ------
        InputError
            If the metadata do not say them in the way that Limbo does, or there are no images or
            masks, which give the size of a row.
        """
        if (found := self._indexed_boxes(row)) is not None:
            return found
        return self._geometry(geometry.boxes, self.abridged, row)

    def contours(self, row: int) -> list[Contour]:
        """Return the distinct contours of a row with their holes, in pixels of the row.

        A contour whose metadata do not say `contour_mode` is left out, with a warning.

        Returns
        -------
        list of Contour

        Raises
        ------
        InputError
            As by `boxes`.
        """
        return self._geometry(geometry.contours, self.compact, row)

    def rows(self, array: str) -> Rows:
        """Return the rows of an array, which are read in batches: ``rows("images")[[7, 3, 5]]``.

        Parameters
        ----------
        array : str
            ``images`` or ``masks-NAME``.

        Returns
        -------
        Rows

        Raises
        ------
        InputError
            If a prefix has no such array, or one of another shape.
        """
        shapes = {source.array(array).shape[1:] for source in self._sources}
        if len(shapes) > 1:
            sizes = " and ".join(f"{width} × {height}" for height, width, _ in sorted(shapes))
            raise InputError(
                f"rows of {sizes} pixels cannot be joined: {filenames.array_file(array)}"
            )
        return Rows(self._sources, array, self._rows)

    def torch(
        self,
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
    ) -> Samples:
        """Make a map-style dataset for PyTorch's ``DataLoader``.

        The parameters are those of `limbo_compress.torch.Samples`.

        Returns
        -------
        Samples

        Raises
        ------
        UsageError
            If PyTorch is not installed, or if the rows have no such part.
        """
        try:
            from ..torch import Samples
        except ModuleNotFoundError as error:
            raise missing_extra(f"this needs PyTorch: {error}", "torch") from error
        return Samples(
            self,
            labels,
            masks,
            boxes,
            color,
            dtype,
            transform,
            tv_tensors,
            classes,
            memory_format,
            known_masks,
        )

    def column(self, name: str) -> Column:
        """Return a column of `table` with its values as they are stored."""
        return column_of(self._sources, self._rows, name)

    @cached_property
    def _starts(self) -> list[int]:
        return starts_of(self._sources)

    @cached_property
    def _rows(self) -> Ints:
        return np.arange(self._starts[-1]) if self._selected is None else self._selected

    @cached_property
    def _is_stretch(self) -> bool:
        """Whether the rows are consecutive rows of one prefix."""
        return len(self._sources) == 1 and bool((np.diff(self._rows) == 1).all())

    @property
    def _has_metadata(self) -> bool:
        return any(source.has_metadata for source in self._sources)

    def shares_rows(self, other: Dataset) -> bool:
        """Whether any row is a row of another data set, too, whatever the names of the prefixes."""
        return any(
            source.files & other_source.files and np.intersect1d(rows, other_rows).size
            for source, _, rows in self.parts()
            for other_source, _, other_rows in other.parts()
        )

    def parts(self) -> list[tuple[Source, int, Ints]]:
        """Each prefix, the number of its first row, and which of its rows are chosen."""
        edges = zip(self._sources, self._starts, self._starts[1:], strict=False)
        return [
            (source, start, self._rows[(self._rows >= start) & (self._rows < stop)] - start)
            for source, start, stop in edges
        ]

    def _divided(
        self,
        what: str,
        shares: Sequence[float],
        needed: int,
        seed: int,
        stratify: ArrayLike | Sequence[Hashable] | None,
        groups: Groups | None,
    ) -> tuple[Ints, Ints | None]:
        """Return the part and the group of each row."""
        check_seed(seed, what)
        strata = strata_of(stratify, len(self))
        numbers = None if groups is None else self.groups(groups)
        parts = divide(strata, numbers, shares, seed, needed)
        if numbers is not None and (problem := far_off(parts, numbers, shares)):
            warn(f"{what}: {problem}")
        return parts, numbers

    def _split(
        self, parts: Sequence[NDArray[np.bool_]], asked: Sequence[int], groups: Ints | None
    ) -> Split:
        of_groups = groups if groups is None else [len(np.unique(groups[part])) for part in parts]
        return Split(map(self.select, parts), asked, of_groups)

    def release(self) -> None:
        """Release the pages of arrays that were used. They would count as memory of this process.

        The system may still have them in memory, and reads them again where it has not.
        """
        for source in self._sources:
            for array in source.used:
                release(array)

    def _row(self, row: int) -> Sample:
        return Sample(
            None if self.images is None else self.images[row],
            {name: mask[row] for name, mask in self.masks.items()},
            None if self.metadata is None else self.metadata[row],
        )

    def map_rows(self, name: str) -> Array:
        """Return the rows of an array, mapped where they are consecutive rows of one prefix."""
        if not self._is_stretch:
            return self.rows(name)
        start = int(self._rows[0]) if len(self) else 0
        found = self._sources[0].array(name)[start : start + len(self)].view(MappedRows)
        found.origin = self, name
        return found

    def _items(self, what: _Read) -> Items[Any]:
        return Items(self._rows, partial(self._item, what))

    def _item(self, what: _Read, row: int) -> Any:
        source, row = locate(self._starts, row)
        return getattr(self._sources[source].metadata, what)(row)

    def _path(self, row: int) -> str:
        source, row = locate(self._starts, row)
        return self._sources[source].path(row)

    def _campaign(self, row: int) -> str | None:
        source, row = locate(self._starts, row)
        return self._sources[source].campaign(self._sources[source].metadata.path(row))

    def _source_files(self, row: int) -> tuple[SourceFile, ...]:
        source, row = locate(self._starts, row)
        index = self._sources[source].index
        return index.sources(row) if index else ()

    def _category_sets(self) -> tuple[list[frozenset[str]], Ints]:
        """Return sets of categories, and the number of the one that belongs to each row."""
        sets: list[frozenset[str]] = []
        ids = []
        for source in self._sources:
            metadata = source.metadata
            ids.append(metadata.set_ids.astype(np.intp) + len(sets))
            sets += metadata.category_sets
        return sets, np.concatenate(ids)[self._rows]

    def _geometry(
        self,
        find: Callable[[dict[str, Any], tuple[int, int], geometry.LeftOut], list[Item]],
        metadata: Items[dict[str, Any]],
        row: int,
    ) -> list[Item]:
        sample = metadata[row]
        problems: set[str] = set()
        try:
            found = find(sample, self.row_size, problems.add)
        except ValueError as error:
            raise InputError(f"row {row}: {error}", self._where(row)) from error
        for problem in sorted(problems):
            warn(f"{shown(self._where(row))}: row {row}: {problem}")
        return found

    def _indexed_boxes(self, row: int) -> list[Box] | None:
        """Return the boxes of a row as the index has them; None if the metadata tell them."""
        source, at = locate(self._starts, int(self._rows[row]))
        index = self._sources[source].metadata.index
        # The images may be of another job, with rows of another size.
        if index is None or (index.made or {}).get("image_size") != list(self.row_size):
            return None
        try:
            found = index.boxes(at)
        except ValueError as error:
            raise InputError(str(error), self._where(row)) from error
        if found is None:
            return None
        return [Box(name, np.array(xyxy, np.float32)) for name, xyxy in found]

    def _where(self, row: int) -> str:
        """Return the path of a row's sample or, where it is not known, that of all metadata."""
        try:
            return self.paths[row]
        except InputError as error:
            return error.path


class _Masks(Mapping[str, Array]):
    """The masks of a data set by their names, opened when they are asked for."""

    def __init__(self, read: Callable[[str], Array], arrays: Iterable[str]) -> None:
        masks = {filenames.mask_of_array(array): array for array in arrays}
        self._read = read
        self._arrays = {mask: array for mask, array in masks.items() if mask is not None}

    def __getitem__(self, mask: str) -> Array:
        return self._read(self._arrays[mask])

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __repr__(self) -> str:
        return f"<masks {', '.join(self)}>"


def concat(datasets: Iterable[Dataset]) -> Dataset:
    """Join data sets, one after the other.

    An output that one of them lacks, or has in another size, raises an `InputError` when it is
    used.

    Parameters
    ----------
    datasets : iterable of Dataset

    Returns
    -------
    Dataset

    Raises
    ------
    UsageError
        If there are none.
    """
    parts = list(datasets)
    if not parts:
        raise UsageError("concat takes at least one data set")
    sources = [source for part in parts for source in part._sources]
    starts = starts_of([range(part._starts[-1]) for part in parts])
    rows = [part._rows + start for part, start in zip(parts, starts, strict=False)]
    is_all = all(part._selected is None for part in parts)
    return Dataset(sources, None if is_all else np.concatenate(rows))
