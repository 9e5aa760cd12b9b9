"""What Limbo calls things: the categories of its campaigns, and sets of names for one thing.

Some things have several names. Campaigns 3 and 4 call every type 48 container ``48``, later ones
tell ``48G``, ``48X`` and ``48Y`` apart; campaign 5 says ``30`` for 30B. So a label that is to find
all of them takes a set of names, ``dataset.labels({"48": vocabulary.TYPE_48})``, which is
``@type-48`` wherever text is expected, as on command lines.

The campaigns are those of Limbo's documentation, whose pages list the categories of each:
``docs/campaignN.ipynb``, ``docs/ref.ipynb`` and ``docs/ref-2.ipynb`` in
https://github.com/limbo-ml/user (version 0.4.0).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

from .errors import UsageError, nearest, shown

__all__ = [
    "BARREL_55G",
    "CATEGORIES",
    "CONTAINER",
    "NAMES",
    "TYPE_30B",
    "TYPE_48",
    "Category",
    "mixed",
    "named",
    "overlooked",
]

_PAGES = "https://github.com/limbo-ml/user/blob/main/docs"

# Names, the category that includes them, the campaigns that use them, and what they are. A name
# that begins with another is not always a kind of it: 30Boverpack and barrel/wine/blocking are not.
_TABLE = (
    ("30B", "", "2 8 11 14-16 18 20 ref ref-2", "container of type 30B"),
    ("30", "30B", "5", "container of type 30B; a typo"),
    ("30Boverpack", "", "ref", "overpack, in which a 30B is shipped"),
    ("48", "", "3-4", "container of type 48G, 48X or 48Y"),
    ("48G", "48", "9 12-13 15 17 19-20 ref", "container of type 48G"),
    ("48X", "48", "9 12-13 15 17 19-20 ref ref-2", "container of type 48X"),
    ("48Y", "48", "9 12-13 15 17 19-20 ref ref-2", "container of type 48Y"),
    ("background", "", "2-6", "the whole picture: a backdrop without any container"),
    ("bag/cement", "", "7-14 16-19", "bags of cement on a pallet"),
    ("bag/salt", "", "7-14 16-20", "bags of salt on a pallet"),
    ("bag/sand", "", "7-14 16-20", "bags of sand on a pallet"),
    ("banding", "", "7-14 16-20", "straps around a load on a pallet"),
    ("barrel/55G", "", "7-14 16-20", "barrel of 55 gallons; in 7 to 9, one that stands alone"),
    (
        "barrel/55G/A barrel/55G/B barrel/55G/C barrel/55G/D barrel/55G/E barrel/55G/F",
        *("barrel/55G", "7-9", "one of six barrels of 55 gallons on a pallet"),
    ),
    ("barrel/wine", "", "10-14 18-20", "wine barrel of oak"),
    ("barrel/wine/blocking", "", "10-14 18-20", "wood that supports wine barrels"),
    ("block/cinder", "", "7-14 16-19", "cinder blocks on a pallet"),
    ("block/generic", "", "7-14 16-20", "large masonry blocks on a pallet"),
    ("blocking/concrete", "", "8-9 11-20", "concrete that supports a container"),
    ("blocking/wood", "", "8-9 11-20", "wood that supports a container"),
    ("box/cardboard", "", "7-14 16-19", "cardboard boxes on a pallet"),
    ("brick", "", "7-14 16-19", "bricks on a pallet, wrapped in plastic"),
    (
        "crate/mil/large crate/mil/long crate/mil/medium crate/mil/small",
        *("", "7-14 16-20", "military crate of plastic, of one of four sizes"),
    ),
    ("drywall", "", "7-14 16-20", "stack of sheets of drywall, wrapped in plastic"),
    ("keg/30L keg/50L", "", "7-14 16-20", "beer keg of 30 or 50 liters"),
    ("lumber/pine", "", "7-14 16-20", "stack of pine lumber"),
    ("mdf", "", "7-14 16-20", "stack of sheets of MDF"),
    ("paintbrush", "", "7-14 16-20", "brush with bristles"),
    ("paintcan/1G", "", "7-14 16-20", "paint can of one gallon"),
    ("pallet", "", "7-14 16-20", "pallet of wood"),
    ("person", "", "18-19", "person"),
    ("real", "", "ref ref-2", "the whole picture: a photograph"),
    ("steel/roll", "", "7-14 16-19", "large roll of sheet metal"),
    ("synthetic", "", "2-20", "the whole picture: a render"),
    (
        "tank/gas/6kg tank/gas/8kg tank/gas/10kg tank/gas/20kg tank/gas/30kg tank/gas/160L",
        *("", "7-14 16-20", "gas cylinder of this size"),
    ),
    (
        "tank/oil/A tank/oil/B tank/oil/C tank/oil/D tank/oil/F tank/oil/G tank/oil/H",
        *("", "7-14", "large industrial oil tank, of one of eight kinds"),
    ),
    ("tank/oil/E", "", "7-10 13-14", "large industrial oil tank, of one of eight kinds"),
    ("tank/propane/500G", "", "7-14 16-20", "propane tank of a household"),
    (
        "tank/water/IBC/275G tank/water/plastic/1500L tank/water/plastic/16G",
        *("", "7-14 16-20", "water tank of this size"),
    ),
)


class Category(NamedTuple):
    """A category of Limbo's campaigns.

    Attributes
    ----------
    name : str
    parent : str or None
        The category that includes it: 48 for 48G.
    what : str
    campaigns : tuple of str
        Those that use it, named as Limbo's folders: ``campaign17``, ``ref``.
    source : str
        The page of Limbo's documentation on the first of them.
    """

    name: str
    parent: str | None
    what: str
    campaigns: tuple[str, ...]
    source: str


def _categories() -> Iterator[Category]:
    for names, parent, ranges, what in _TABLE:
        campaigns = tuple(_campaigns(ranges))
        for name in names.split():
            source = f"{_PAGES}/{campaigns[0]}.ipynb"
            yield Category(name, parent or None, what, campaigns, source)


def _campaigns(ranges: str) -> Iterator[str]:
    for text in ranges.split():
        first, _, last = text.partition("-")
        if first.isdecimal():
            yield from (f"campaign{number}" for number in range(int(first), int(last or first) + 1))
        else:
            yield text


def _with_kinds(name: str) -> frozenset[str]:
    return frozenset({name, *(each.name for each in CATEGORIES.values() if each.parent == name)})


CATEGORIES: Mapping[str, Category] = MappingProxyType({each.name: each for each in _categories()})
"""Every category of the documented campaigns, by its name.

:meta hide-value:
"""

TYPE_30B = _with_kinds("30B")
"""Names of containers of type 30B, but not of an overpack: ``@type-30b``.

:meta hide-value:
"""

TYPE_48 = _with_kinds("48")
"""Names of containers of type 48: ``@type-48``.

:meta hide-value:
"""

CONTAINER = TYPE_30B | TYPE_48
"""Names of all containers: ``@container``.

:meta hide-value:
"""

BARREL_55G = _with_kinds("barrel/55G")
"""Names of barrels of 55 gallons: ``@barrel-55g``.

:meta hide-value:
"""

# The sets of names that may all mean one thing, by the one that includes the others.
_ONE_THING = {"30B": "type-30b", "48": "type-48", "barrel/55G": "barrel-55g"}

NAMES: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "barrel-55g": BARREL_55G,
        "container": CONTAINER,
        "type-30b": TYPE_30B,
        "type-48": TYPE_48,
    }
)
"""The sets that ``@NAME`` means.

:meta hide-value:
"""


def named(text: str) -> frozenset[str]:
    """Return the set of names that a text such as ``@type-48`` means.

    Raises
    ------
    UsageError
        If there is no such set.
    """
    found = NAMES.get(text.removeprefix("@"))
    if found is None:
        sets = nearest([text], [f"@{name}" for name in NAMES])
        raise UsageError(f"there is no set of categories {shown(text)}", hint=f"the sets: {sets}")
    return found


def mixed(names: Collection[str]) -> dict[str, list[str]]:
    """Return those of some names that may mean one thing, by the set that has them all.

    Examples
    --------
    >>> mixed(["30B", "48", "48G", "48Y"])
    {'@type-48': ['48', '48G', '48Y']}
    """
    found = {
        f"@{name}": sorted(NAMES[name].intersection(names))
        for parent, name in _ONE_THING.items()
        if parent in names
    }
    return {name: each for name, each in found.items() if len(each) > 1}


def overlooked(wanted: Collection[str], samples: Iterable[frozenset[str]]) -> dict[str, list[str]]:
    """Return the names by which samples may show what is wanted, which they do not have.

    Parameters
    ----------
    wanted : collection of str
        Names of a thing.
    samples : iterable of frozenset of str
        Sets of categories that samples have.

    Returns
    -------
    dict of str to list of str
        By the set that has all names of the thing.

    Examples
    --------
    >>> overlooked({"48G", "48Y"}, [frozenset({"48", "real"}), frozenset({"48", "48X"})])
    {'@type-48': ['48']}
    """
    things = [
        (parent, f"@{name}", NAMES[name])
        for parent, name in _ONE_THING.items()
        if not NAMES[name].isdisjoint(wanted)
    ]
    found: dict[str, set[str]] = {}
    for sample in samples:
        for parent, name, names in things:
            has = sample & names
            # Next to the name of a kind, that of all kinds says nothing new.
            may_be = parent in wanted or has == {parent}
            if has and may_be and has.isdisjoint(wanted):
                found.setdefault(name, set()).update(has)
    return {name: sorted(each) for name, each in sorted(found.items())}
