"""Flip random bits of outputs, and look whether each is found.

Run ``python -m tests.programs.bitflips 1000``.

A bit is flipped in every kind of place in turn: the headers and the rows of arrays, the metadata,
the index and its trailer. Between two of them the outputs are whole, and nothing may be found.
"""

from __future__ import annotations

import logging
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random

from benchmarks.campaign import Campaign, write_campaign
from limbo_compress import CheckReport, InputError, check, compress, load
from tests.jobs import MASKS, job

_HEADER_BYTES = 128
_TRAILER_BYTES = 24


def main() -> int:
    """Flip as many bits as are asked for, 1000 by default."""
    logging.disable(logging.WARNING)  # that an index is damaged
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "data")
        write_campaign(data, Campaign(samples=12, photographs=4, size=(90, 70), seed=7))
        compress(job(data, Path(folder), masks=MASKS))
        found, missed = Counter[str](), []
        for place, what in flips(Path(folder, "out"), count, Random(0)):
            found[place] += bool(what)
            missed += [] if what else [place]
    print(f"found {sum(found.values())} of {count} flipped bits: {dict(sorted(found.items()))}")
    for place in missed:
        print(f"NOT FOUND: {place}")
    return 1 if missed else 0


def flips(prefix: Path, count: int, random: Random) -> Iterator[tuple[str, str]]:
    """Flip bits of outputs one by one; yield where each was, and what was found."""
    places = list(_places(prefix))
    for number in range(count):
        path, name, part = places[number % len(places)]
        at, bit = random.choice(part), random.randrange(8)
        with open(path, "r+b") as stream:
            stream.seek(at)
            (byte,) = stream.read(1)
            for value, is_damaged in ((byte ^ 1 << bit, True), (byte, False)):
                stream.seek(at)
                stream.write(bytes([value]))
                stream.flush()
                found = _found(prefix, path)
                if is_damaged:
                    yield name, found
                else:
                    assert not found, (path, at, bit, found)


def _places(prefix: Path) -> Iterator[tuple[Path, str, range]]:
    for path in sorted(prefix.parent.glob(f"{prefix.name}-*.npy")):
        size = path.stat().st_size
        yield path, f"header of {path.name}", range(_HEADER_BYTES)
        yield path, f"rows of {path.name}", range(_HEADER_BYTES, size)
    path = Path(f"{prefix}-metadata.pickle")
    content = path.read_bytes()
    index = content.index(b'{"directories"')  # its first section
    yield path, "metadata", range(index)
    yield path, "index", range(index, len(content) - _TRAILER_BYTES)
    yield path, "trailer", range(len(content) - _TRAILER_BYTES, len(content))


def _found(prefix: Path, path: Path) -> str:
    """Return what is found in the outputs; damage must be found in the right file."""
    try:
        report: CheckReport = check(load(prefix), workers=1)
    except InputError as error:
        paths, found = {error.path}, str(error)
    else:
        paths, found = {finding.path for finding in report.findings}, report.describe()
    assert paths <= {str(path)}, found
    return found if paths else ""


if __name__ == "__main__":
    sys.exit(main())
