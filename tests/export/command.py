"""The real command ``limbo-export``, as a module."""

from __future__ import annotations

import signal
import sys

from limbo_compress.cli.start import export

if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)  # they may be ignored, as in a job in the background
    sys.exit(export())
