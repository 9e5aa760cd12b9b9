from __future__ import annotations

import os
from pathlib import Path

import pytest

from limbo_compress.run.cpus import usable

AFFINITY = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_without_limits_the_affinity_counts(tmp_path: Path) -> None:
    assert usable({}, tmp_path) == AFFINITY


@pytest.mark.parametrize(("cpus", "expected"), [("1", 1), ("1000", AFFINITY), ("", AFFINITY)])
def test_slurm_limits_the_cpus(tmp_path: Path, cpus: str, expected: int) -> None:
    assert usable({"SLURM_CPUS_PER_TASK": cpus}, tmp_path) == expected


@pytest.mark.parametrize(
    "files",
    [
        {"proc/self/cgroup": "0::/job/step\n", "sys/fs/cgroup/job/step/cpu.max": "50000 100000\n"},
        {"proc/self/cgroup": "0::/job/step\n", "sys/fs/cgroup/job/cpu.max": "90000 100000\n"},
        {
            "proc/self/cgroup": "3:memory:/x\n2:cpu,cpuacct:/x\n",
            "sys/fs/cgroup/cpu/x/cpu.cfs_quota_us": "10000\n",
            "sys/fs/cgroup/cpu/x/cpu.cfs_period_us": "100000\n",
        },
    ],
)
def test_a_cgroup_quota_limits_the_cpus_and_is_rounded_up(
    tmp_path: Path, files: dict[str, str]
) -> None:
    assert usable({}, write(tmp_path, files)) == 1


@pytest.mark.parametrize("quota", ["max 100000", "-1", "nonsense", ""])
def test_without_a_quota_the_cgroup_does_not_limit(tmp_path: Path, quota: str) -> None:
    files = {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": quota}
    assert usable({}, write(tmp_path, files)) == AFFINITY
