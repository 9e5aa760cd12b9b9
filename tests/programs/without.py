"""A real command, in a Python that lacks a library.

``python -m tests.programs.without LIBRARY main|export|inspect [arguments of the command]``
"""

from __future__ import annotations

import sys

from limbo_compress.cli import start

if __name__ == "__main__":
    library, command, *arguments = sys.argv[1:]
    sys.modules[library] = None  # type: ignore[assignment]  # how Python notes its absence
    sys.exit(getattr(start, command)(arguments))
