"""The real command, but samples whose path contains a given text crash their process.

``python -m tests.crashing TEXT [arguments of limbo-compress]``. Forked workers inherit the
wrapped function; others import this module as their main module.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from limbo_compress.cli.start import main
from limbo_compress.options import Options
from limbo_compress.run import worker
from limbo_compress.samples.reader import SampleFiles


def crash_on(text: str) -> None:
    """Die of SIGSEGV, as a decoder might, on samples whose path contains `text`."""
    compress_sample = worker.compress_sample

    def crash_or_compress(options: Options, files: SampleFiles, rows: dict[str, Any]) -> bytes:
        if text in files.path:
            os.kill(os.getpid(), signal.SIGSEGV)
        return compress_sample(options, files, rows)

    worker.compress_sample = crash_or_compress


crash_on(sys.argv[1])
if __name__ == "__main__":
    sys.exit(main(sys.argv[2:]))
