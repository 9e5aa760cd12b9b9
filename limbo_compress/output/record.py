"""The record of a work folder: which job its work belongs to, and which runs have worked on it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from .. import dependencies
from ..formats.filestate import open_regular
from ..oserrors import reading
from ..plan import Job
from .filesystem import write_synced
from .made import as_json, digest

__all__ = [
    "changes",
    "fingerprint",
    "last_record",
    "made_by",
    "read_record",
    "record_names",
    "runs_of",
    "write_record",
]

_RECORD = "job"
_RECORD_NAME = re.compile(r"job-(\d+)(-[^-]+)?\.json")  # older versions wrote no run
_DECODERS = "decoders"
_FORMAT = 9


def read_record(folder: str) -> dict[str, Any]:
    """Read which job a work folder belongs to; empty if there is no record, or a damaged one.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    # Listed: a name that is looked up before it is there is missing for a while on a network.
    names = record_names(folder)
    return _read(os.path.join(folder, names[-1])) if names else {}


def _read(path: str) -> dict[str, Any]:
    try:
        with reading(path), open_regular(path) as stream:
            record = json.load(stream)
    except (ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def write_record(job: Job, folder: str, record: dict[str, Any]) -> list[str]:
    """Write the record so that it is on the disk, under a new name; then remove older ones.

    No client of a network has cached a new name. Its number grows with the time. Two runs may
    choose the same one, so the name of the run follows. A run that was taken over may still write
    one that lacks later runs, so the runs of all records are joined.

    Returns
    -------
    list of str
        The names of all runs that worked on the job, this one last.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    older = record_names(folder)
    earlier = (run for name in older for run in runs_of(_read(os.path.join(folder, name))))
    runs = [*dict.fromkeys(earlier), job.run]
    draft = os.path.join(folder, f"{job.run}-{_RECORD}")
    with open(draft, "w") as stream:
        number = max(os.fstat(stream.fileno()).st_mtime_ns, 1 + last_record(folder))
    text = json.dumps(record | {"runs": runs})
    write_synced(os.path.join(folder, f"{_RECORD}-{number}-{job.run}.json"), text, draft)
    for name in older:
        with suppress(OSError):
            os.unlink(os.path.join(folder, name))
    return runs


def record_names(folder: str) -> list[str]:
    """Return the names of the records in a folder, from the oldest to the one that counts."""
    return sorted(filter(_RECORD_NAME.fullmatch, os.listdir(folder)), key=_number)


def last_record(folder: str) -> int:
    """Return the number of the last record in a folder; 0 if there is none."""
    return max(map(_number, record_names(folder)), default=0)


def _number(record_name: str) -> int:
    return int(record_name.split("-")[1].removesuffix(".json"))


def fingerprint(job: Job, paths: Sequence[str]) -> dict[str, Any]:
    """What must not change for work to be resumed: options that matter, decoders, samples."""
    options = job.options
    partitions = {"partitions": job.partition.count} if job.partition else {}
    decoders = dependencies.decoders(options.images, bool(options.masks))
    return partitions | {
        "format": _FORMAT,
        **{name: as_json(value) for name, value in options.deciding_bytes.items()},
        _DECODERS: decoders,
        "number of samples": len(paths),
        "list of samples": digest(paths),
    }


def made_by(record: dict[str, Any]) -> str:
    """Say which version wrote a record in another format."""
    number = record.get("format")
    is_older = isinstance(number, int) and number < _FORMAT
    return "an older version, 0.1.0" if is_older else "a later version"


def runs_of(record: dict[str, Any]) -> list[str]:
    """The names of the runs that worked on a job, the latest one last."""
    runs = record.get("runs")
    return [run for run in runs if isinstance(run, str)] if isinstance(runs, list) else []


def changes(found: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """Say how the job that was found differs from the one that is wanted."""
    differences = []
    for name, value in wanted.items():
        if name == "partitions" and name not in found:  # no partition has begun
            continue
        if found.get(name) != value:
            if name == _DECODERS:
                differences += _new_versions(found.get(name), value)
            elif isinstance(value, str):  # a digest means nothing to a reader
                differences.append(f"the {name} changed")
            else:
                differences.append(f"`{name}` was {found.get(name)}")
    return differences


def _new_versions(found: Any, wanted: dict[str, str]) -> list[str]:
    """Say which libraries have another version."""
    before = found if isinstance(found, dict) else {}
    pairs = {package: (before.get(package, "unknown"), wanted[package]) for package in wanted}
    return [f"{package} was {old}, is {new}" for package, (old, new) in pairs.items() if old != new]
