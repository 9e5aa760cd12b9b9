"""How many CPUs this process may use, and whether it runs on a login node."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

__all__ = ["LOGIN_NODE_NICENESS", "default_workers", "is_login_node", "usable"]

LOGIN_NODE_NICENESS = 10
_LOGIN_NODE_WORKERS = 4


def default_workers() -> int:
    """Return how many workers to start if the user does not say: few on a login node."""
    return min(_LOGIN_NODE_WORKERS, usable()) if is_login_node() else usable()


def usable(environ: Mapping[str, str] = os.environ, root: Path = Path("/")) -> int:
    """Return the least of ``SLURM_CPUS_PER_TASK``, the CPU affinity and the cgroup quota.

    `os.cpu_count` ignores all three.

    Parameters
    ----------
    environ : mapping
        The environment.
    root : Path
        Where ``proc`` and ``sys`` are mounted.
    """
    limits = [_affinity(), *_cgroup_quotas(root)]
    slurm = environ.get("SLURM_CPUS_PER_TASK", "")
    if slurm.isdecimal():
        limits.append(int(slurm))
    return max(1, min(limits))


def is_login_node(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether SLURM is installed but this process runs outside of its jobs."""
    return (
        "SLURM_JOB_ID" not in environ
        and shutil.which("sbatch", path=environ.get("PATH")) is not None
    )


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cgroup_quotas(root: Path) -> Iterator[int]:
    """CPUs that each enclosing cgroup allows, version 2 or 1 (kernel docs, cgroup-v2.rst)."""
    base = root / "sys/fs/cgroup"
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers == "":
            top = base
        elif "cpu" in controllers.split(","):
            top = base / "cpu"
        else:
            continue
        folder = top / group.lstrip("/")
        for level in (folder, *folder.parents):
            if not level.is_relative_to(top):
                break
            quota, period = _quota(level)
            if quota > 0 and period > 0:
                yield math.ceil(quota / period)


def _quota(folder: Path) -> tuple[int, int]:
    words = _read(folder / "cpu.max").split() or [
        *_read(folder / "cpu.cfs_quota_us").split(),
        *_read(folder / "cpu.cfs_period_us").split(),
    ]
    numbers = [int(word) for word in words if word.lstrip("-").isdecimal()]
    return (numbers[0], numbers[1]) if len(numbers) == 2 else (0, 0)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return ""
