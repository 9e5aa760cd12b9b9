"""How many CPUs this process may use, and whether it runs on a login node."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterator, Mapping

__all__ = ["LOGIN_NODE_NICENESS", "default_workers", "is_login_node", "usable"]

LOGIN_NODE_NICENESS = 10
_LOGIN_NODE_WORKERS = 4


def default_workers() -> int:
    """Return how many workers to start if the user does not say: few on a login node."""
    return min(_LOGIN_NODE_WORKERS, usable()) if is_login_node() else usable()


def usable(environ: Mapping[str, str] = os.environ, root: str | os.PathLike[str] = "/") -> int:
    """Return the least of ``SLURM_CPUS_PER_TASK``, the CPU affinity and the cgroup quota.

    `os.cpu_count` ignores all three.

    Parameters
    ----------
    environ : mapping
        The environment.
    root : str or path
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


def _cgroup_quotas(root: str | os.PathLike[str]) -> Iterator[int]:
    """CPUs that each enclosing cgroup allows, version 2 or 1 (kernel docs, cgroup-v2.rst)."""
    base = os.path.join(root, "sys/fs/cgroup")
    for line in _read(os.path.join(root, "proc/self/cgroup")).splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers == "":
            top = base
        elif "cpu" in controllers.split(","):
            top = os.path.join(base, "cpu")
        else:
            continue
        folder = os.path.join(top, group.lstrip("/"))
        while len(folder) >= len(top):
            quota, period = _quota(folder)
            if quota > 0 and period > 0:
                yield math.ceil(quota / period)
            folder = os.path.dirname(folder)


def _quota(folder: str) -> tuple[int, int]:
    words = _read(os.path.join(folder, "cpu.max")).split() or [
        *_read(os.path.join(folder, "cpu.cfs_quota_us")).split(),
        *_read(os.path.join(folder, "cpu.cfs_period_us")).split(),
    ]
    numbers = [int(word) for word in words if word.lstrip("-").isdecimal()]
    return (numbers[0], numbers[1]) if len(numbers) == 2 else (0, 0)


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii") as stream:
            return stream.read()
    except (OSError, UnicodeDecodeError):
        return ""
