"""The real command, in a Python that says of itself that it is free-threaded."""

from __future__ import annotations

import sys

from limbo_compress.cli.start import main

if __name__ == "__main__":
    sys.abiflags += "t"
    sys.exit(main())
