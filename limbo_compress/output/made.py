"""How outputs are made, as their index says it: all that follows from content and options."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from .. import dependencies
from ..array_kinds import PIXELS
from ..options import Options

__all__ = ["as_json", "below_common_folder", "digest", "how_made"]


def how_made(options: Options, paths: Sequence[str], leaves_out: bool) -> dict[str, Any]:
    """Say how the outputs are made, for `IndexWriter.write`.

    Neither time, machine, engine nor workers are in it: they decide no byte.

    Parameters
    ----------
    options : Options
    paths : sequence of str
        The metadata files of the job, good and bad.
    leaves_out : bool
        Whether bad samples were left out.

    Returns
    -------
    dict
        As JSON. ``samples`` is a digest of the paths below their common folder, so a campaign may
        be moved.
    """
    from .. import __version__  # here because it takes as long as the whole package

    made = {name: as_json(value) for name, value in options.deciding_bytes.items()}
    del made["metadata"]  # they have the index
    made |= {
        "directories": sorted({os.path.abspath(each) for each in options.directories}),
        "version": __version__.partition("+")[0],
        "pixels": PIXELS,
        "max_pixels": options.max_pixels,  # decides which samples are bad
        "start": options.start,
        "end": options.end,
        "samples": digest(below_common_folder(paths)),
    }
    if options.images:  # the writer of the index leaves it out if no pixel depends on it
        made["opencv"] = next(iter(dependencies.decoders(images=True, masks=False).values()))
    if leaves_out:
        made["on_error"] = options.on_error
    return made


def as_json(value: Any) -> Any:
    """Return the value of an option as reading JSON gives it; a dict keeps its order, in a list."""
    if isinstance(value, Mapping):
        return [list(item) for item in value.items()]
    return list(value) if isinstance(value, tuple) else value


def digest(names: Sequence[str]) -> str:
    """Return the SHA-256 of a list of names."""
    import hashlib  # here because no worker needs it

    found = hashlib.sha256()
    for name in names:
        found.update(os.fsencode(name) + b"\0")
    return found.hexdigest()


def below_common_folder(paths: Sequence[str]) -> list[str]:
    """Return paths, which are absolute, as they are below the folder that all have in common."""
    folder = os.path.commonpath([os.path.dirname(path) for path in (min(paths), max(paths))])
    return [path[len(folder) :] for path in paths]
