"""``python -m limbo_compress``, the same as ``limbo-compress``."""

import os
import sys


def _forget_current_folder() -> None:
    """Remove the current folder from `sys.path`: its ``json.py`` would hide the standard library's.

    ``-m`` puts it first. It stays if it holds this package.
    """
    try:
        current = os.getcwd()
    except OSError:  # -m put nothing first
        return
    if not sys.flags.safe_path and sys.path[0] == current != __file__.rsplit("/", 2)[0]:
        del sys.path[0]


if __name__ == "__main__":
    _forget_current_folder()

    from .cli.start import main

    sys.exit(main())
