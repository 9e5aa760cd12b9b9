"""``python -m limbo_compress``, the same as ``limbo-compress``."""

import sys

from .cli.start import main

if __name__ == "__main__":
    sys.exit(main())
