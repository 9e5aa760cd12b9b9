"""The real command, which sends itself a signal during its imports or at its exit.

``python -m tests.cli.signalled MOMENT SIGNAL [arguments of limbo-compress]``
"""

from __future__ import annotations

import atexit
import os
import signal
import sys

from limbo_compress.cli.start import main


class SignalOnImport:
    """A finder that finds nothing, but sends the signal when `name` is imported."""

    def __init__(self, name: str, number: signal.Signals) -> None:
        self._name = name
        self._number = number

    def find_spec(self, name: str, *_: object) -> None:
        if name == self._name:
            os.kill(os.getpid(), self._number)


if __name__ == "__main__":
    moment, number = sys.argv[1], signal.Signals[sys.argv[2]]
    signal.signal(number, signal.SIG_DFL)  # it may be ignored here, as in a job in the background
    if moment == "exit":
        atexit.register(os.kill, os.getpid(), number)
    else:
        sys.meta_path.insert(0, SignalOnImport("limbo_compress.coordinator", number))
    sys.exit(main(sys.argv[3:]))
