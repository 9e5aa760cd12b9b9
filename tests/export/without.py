"""The real command, in a Python that lacks the library named first."""

from __future__ import annotations

import sys

from limbo_compress.cli.start import export

if __name__ == "__main__":
    sys.modules[sys.argv[1]] = None  # type: ignore[assignment]  # how Python notes its absence
    sys.exit(export(sys.argv[2:]))
