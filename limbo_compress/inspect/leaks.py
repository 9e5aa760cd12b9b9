"""What two data sets both have: groups, equal images, and images that are nearly equal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import filenames
from ..dataset.dataset import Dataset, concat
from ..dataset.row_views import Ints
from ..dataset.srgb import srgb8
from ..errors import InputError
from ..imaging.decode import opencv
from ..oserrors import machine_errors
from ..run.executor import Progress
from .pixels import image_digest
from .stretches import in_stretches

__all__ = ["LeakReport", "LeakedPair", "SharedGroups", "leaks"]

# Of 64 bits: how many may differ between the hashes of images that are nearly equal.
_NEAR = 10
_STRETCH = 256
_SIDE, _LOWEST = 32, 8

Hashes = NDArray[np.uint64]


class SharedGroups(NamedTuple):
    """How many groups of a kind both data sets have, and rows of the second that are in them."""

    groups: int
    rows: int


class LeakedPair(NamedTuple):
    """A row of the second data set, and the row of the first that is most like it.

    Attributes
    ----------
    train, test : int
        The numbers of the rows, each among all rows of its prefixes.
    distance : int
        How many of the 64 bits of their hashes differ.
    is_equal : bool
        Whether the images are equal.
    """

    train: int
    test: int
    distance: int
    is_equal: bool


@dataclass(frozen=True)
class LeakReport:
    """What two data sets both have.

    Attributes
    ----------
    train, test : int
        How many rows they have.
    groups : dict of str to SharedGroups
        By kind, such as ``folder``; a tuple of kinds is written as ``pair + duplicate``.
    pairs : tuple of LeakedPair
        One for each row of the second that has an equal or nearly equal one in the first: equal
        ones first, then by distance.
    """

    train: int
    test: int
    groups: dict[str, SharedGroups]
    pairs: tuple[LeakedPair, ...]

    @property
    def equal(self) -> int:
        """How many rows of the second data set are equal to one of the first."""
        return sum(pair.is_equal for pair in self.pairs)

    def select(self, train: Dataset, test: Dataset) -> Dataset:
        """Return the rows of all pairs, as for `write_gallery`: each of `train` before its copy.

        Raises
        ------
        InputError
            If their images have different sizes.
        """
        both = concat([train, test])
        both.rows(filenames.IMAGES)  # its error says the sizes
        starts = [0, len(train)]
        places = [
            {number: place + start for place, number in enumerate(rows.row_numbers.tolist())}
            for rows, start in zip((train, test), starts, strict=True)
        ]
        chosen = [(places[0][pair.train], places[1][pair.test]) for pair in self.pairs]
        return both.select(np.array(chosen, np.intp).reshape(-1))

    def as_json(self) -> dict[str, Any]:
        """Return it as values that JSON has."""
        groups = {kind: shared._asdict() for kind, shared in self.groups.items()}
        return asdict(self) | {"groups": groups, "pairs": [pair._asdict() for pair in self.pairs]}


def leaks(
    train: Dataset,
    test: Dataset,
    by: Sequence[str | tuple[str, ...]] | str | None = None,
    progress: Progress | None = None,
    *,
    workers: int | None = None,
) -> LeakReport:
    """Find what a data set to evaluate on has in common with one to train on.

    Images are nearly equal if their perceptual hashes differ in at most 10 of 64 bits. That is the
    threshold of ``imagededup`` (https://idealo.github.io/imagededup) for this hash, pHash: the
    signs, around their median, of the 8 × 8 lowest frequencies of the image in gray, at 32 × 32
    pixels [1]_. It finds copies that were brightened, compressed or shifted by 1 % of their width.
    Images that show little but a smooth background may be taken for copies, or not be found.

    Time grows with the product of the numbers of rows: 100,000 by 100,000 take about 15 s of one
    CPU, and each image some 0.5 ms.

    Parameters
    ----------
    train, test : Dataset
        Their images may have different sizes.
    by : str or sequence of (str or tuple of str), optional
        Kinds of groups, as `Dataset.groups` takes them; each is looked for on its own. By default
        ``folder`` and ``pair``, or none if the metadata of either do not say the paths of samples.
    progress : callable, optional
        Called as ``progress(done, rows)``.
    workers : int, optional
        Number of processes; by default, one for each CPU that this process may use.

    Returns
    -------
    LeakReport

    Raises
    ------
    UsageError
        If there is no such kind of groups.
    InputError
        If there are no images, or the outputs cannot be read.

    References
    ----------
    .. [1] N. Krawetz, "Looks Like It", 2011, after C. Zauner, "Implementation and Benchmarking of
       Perceptual Image Hash Functions", 2010.
    """
    with machine_errors():
        for rows in (train, test):
            rows.rows(filenames.IMAGES)  # its error names the file that is missing
        kinds = _known_kinds(train, test) if by is None else [by] if isinstance(by, str) else by
        both = concat([train, test])
        groups = {_name(kind): _shared(both.groups(kind), len(train)) for kind in kinds}
        return LeakReport(
            len(train), len(test), groups, tuple(_pairs(train, test, progress, workers))
        )


def _pairs(
    train: Dataset, test: Dataset, progress: Progress | None, workers: int | None
) -> list[LeakedPair]:
    count = len(train) + len(test)

    def go_through(function: Callable[..., Any], rows: Dataset, before: int) -> Iterator[Any]:
        def tell(done: int, _: int) -> None:
            if progress is not None:
                progress(before + done, count)

        found = dict(in_stretches(function, rows, _STRETCH, tell, workers))
        return (found[place] for place in sorted(found))

    known = [_none_found(), *go_through(_fingerprints, train, 0)]
    digests, hashes = (np.concatenate(each) for each in zip(*known, strict=True))
    compare = partial(_most_similar, digests, hashes)
    found = go_through(compare, test, len(train)) if len(train) else ()
    pairs = [
        LeakedPair(int(train.row_numbers[place]), number, distance, is_equal)
        for number, (place, distance, is_equal) in zip(
            test.row_numbers.tolist(), (each for stretch in found for each in stretch), strict=False
        )
        if is_equal or distance <= _NEAR
    ]
    return sorted(pairs, key=lambda pair: (not pair.is_equal, pair.distance, pair.test))


def _name(kind: str | tuple[str, ...]) -> str:
    return kind if isinstance(kind, str) else " + ".join(kind)


def _known_kinds(train: Dataset, test: Dataset) -> list[str]:
    try:
        for rows in (train, test):
            rows.column("folder")
    except InputError:
        return []
    return ["folder", "pair"]


def _shared(numbers: Ints, train: int) -> SharedGroups:
    both = np.intersect1d(numbers[:train], numbers[train:])
    return SharedGroups(len(both), int(np.isin(numbers[train:], both).sum()))


def _none_found() -> tuple[Hashes, Hashes]:
    return np.empty(0, np.uint64), np.empty(0, np.uint64)


def _fingerprints(dataset: Dataset, _: int) -> tuple[Hashes, Hashes]:
    """Return a checksum of each row's image, which equal images share, and its hash."""
    digests, hashes = np.empty((2, len(dataset)), np.uint64)
    images = dataset.rows(filenames.IMAGES)
    for place in range(len(dataset)):
        digests[place] = image_digest(images[place])
        hashes[place] = _perceptual_hash(images[place])
    return digests, hashes


def _perceptual_hash(row: NDArray[Any]) -> np.uint64:
    cv2 = opencv()
    gray = cv2.cvtColor(srgb8(row), cv2.COLOR_RGB2GRAY).astype(np.float32)
    small = cv2.resize(gray, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    lowest = cv2.dct(small)[:_LOWEST, :_LOWEST]
    bits = np.packbits(lowest > np.median(lowest))
    hashed: np.uint64 = bits.view(np.uint64)[0]
    return hashed


def _most_similar(
    digests: Hashes, hashes: Hashes, dataset: Dataset, first: int
) -> list[tuple[int, int, bool]]:
    """Return the place of the row that is most like each row, the distance, if they are equal."""
    order = np.argsort(digests, kind="stable")
    found = []
    for digest, hashed in zip(*_fingerprints(dataset, first), strict=True):
        at = int(np.searchsorted(digests, digest, sorter=order))
        if at < len(order) and digests[order[at]] == digest:
            found.append((int(order[at]), 0, True))
        else:
            distances = np.bitwise_count(hashes ^ hashed)
            place = int(distances.argmin())
            found.append((place, int(distances[place]), False))
    return found
