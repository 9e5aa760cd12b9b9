"""The real command ``limbo-export``, as a module."""

from __future__ import annotations

import sys

from limbo_compress.cli.start import export

if __name__ == "__main__":
    sys.exit(export())
