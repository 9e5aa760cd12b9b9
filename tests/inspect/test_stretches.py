"""What happens to the processes that look at rows."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from limbo_compress import Dataset, WorkerError, load
from limbo_compress.inspect.stretches import in_stretches
from limbo_compress.run.cpus import default_workers


def crash(rows: Dataset, place: int) -> None:
    if place == 6:
        os.kill(os.getpid(), signal.SIGSEGV)


@pytest.mark.skipif(default_workers() == 1, reason="with one CPU, there are no workers")
def test_rows_that_end_every_worker_are_told(prefix: Path) -> None:
    problem = "a worker process was killed by SIGSEGV, at row 6 and the 2 after it"
    with pytest.raises(WorkerError, match=problem):
        list(in_stretches(crash, load(prefix), 3))
