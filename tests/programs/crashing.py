"""The real command, but samples whose path contains a given text crash their worker.

``python -m tests.programs.crashing TEXT [arguments of limbo-compress]``

The environment variable ``TESTS_CRASH_BY`` names another signal than SIGSEGV, or is "exception".
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Generator
from typing import Any
from unittest.mock import patch

from limbo_compress.cli.start import main
from limbo_compress.formats.index import Entry
from limbo_compress.formats.shard_record import ShardRecord
from limbo_compress.options import Options
from limbo_compress.run import worker
from limbo_compress.samples.reader import SampleFiles
from tests.programs import crashing

_TEXT, _CAUSE = "TESTS_CRASH_ON", "TESTS_CRASH_BY"
_compress_sample = worker.compress_sample


def compress_sample_or_crash(
    options: Options, files: SampleFiles, rows: dict[str, Any]
) -> tuple[bytes, Entry | None, list[str]]:
    """Die or raise, as a decoder might, on samples whose path contains the text."""
    if os.environ[_TEXT] in files.path:
        cause = os.environ.get(_CAUSE, "SIGSEGV")
        if cause == "exception":
            raise LookupError("unforeseen")
        os.kill(os.getpid(), signal.Signals[cause])
    return _compress_sample(options, files, rows)


def compress_shard(task: worker.ShardTask) -> Generator[str, None, ShardRecord]:
    """Do a shard in a worker, which imports this function by its name."""
    worker.compress_sample = compress_sample_or_crash
    return worker.compress_shard(task)


if __name__ == "__main__":
    os.environ[_TEXT] = sys.argv[1]
    with patch("limbo_compress.coordinator.compress_shard", crashing.compress_shard):
        sys.exit(main(sys.argv[2:]))
