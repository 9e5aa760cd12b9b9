"""The real command, which prints the modules that its own process has loaded when it ends."""

from __future__ import annotations

import sys

from limbo_compress.cli.start import main

if __name__ == "__main__":
    code = main()
    print("loaded:", *sys.modules)
    sys.exit(code)
