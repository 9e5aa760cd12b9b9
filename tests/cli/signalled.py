"""A real command that sends itself signals at a certain moment.

``python -m tests.cli.signalled MOMENT COMMAND SIGNAL [arguments]``, where COMMAND is a function of
`limbo_compress.cli.start`, and MOMENT one of

imports
    When the coordinator is imported.
callback
    The same, in the callback of a weak reference, where Python drops exceptions.
exit
    When Python exits.
publication
    To every thread, before each file call from the first one that renames or removes an output.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import time
import weakref
from typing import Any

from limbo_compress.cli import start


class SignalOnImport:
    """A finder that finds nothing, but sends the signal when the coordinator is imported."""

    def __init__(self, number: signal.Signals, in_callback: bool) -> None:
        self._number = number
        self._in_callback = in_callback

    def find_spec(self, name: str, *_: object) -> None:
        if name != "limbo_compress.coordinator":
            return
        if self._in_callback:
            dying = SignalOnImport(self._number, False)
            reference = weakref.ref(dying, lambda _: os.kill(os.getpid(), self._number))
            del dying
            assert reference() is None
            time.sleep(60)  # until it is raised again
        os.kill(os.getpid(), self._number)


class SignalInPublication:
    """An audit hook that sends the signal."""

    def __init__(self, number: signal.Signals) -> None:
        self._number = number
        self._is_publishing = False
        self._coordinator = os.getpid()

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in ("os.rename", "os.remove"):
            # `compressed-images.npy` and the like, or the folder of an export
            names = {os.path.basename(path) for path in arguments if isinstance(path, str)}
            self._is_publishing |= any(name.startswith("compressed") for name in names)
        is_file_call = event == "open" or event.startswith(("os.", "shutil."))
        if self._is_publishing and is_file_call and os.getpid() == self._coordinator:
            for thread in threading.enumerate():
                if thread.ident is not None:
                    signal.pthread_kill(thread.ident, self._number)


if __name__ == "__main__":
    moment, command, number = sys.argv[1], sys.argv[2], signal.Signals[sys.argv[3]]
    signal.signal(number, signal.SIG_DFL)  # it may be ignored here, as in a job in the background
    if moment == "exit":
        atexit.register(os.kill, os.getpid(), number)
    elif moment == "publication":
        sys.addaudithook(SignalInPublication(number))
    else:
        sys.meta_path.insert(0, SignalOnImport(number, moment == "callback"))
    sys.exit(getattr(start, command)(sys.argv[4:]))
