"""Before each change of a file below a folder, tell a test, and wait until it answers.

With this folder in ``PYTHONPATH``, every Python process of a command imports this module at its
start. ``MOMENTS_FOLDER`` and ``MOMENTS_SOCKET`` name the folder and the socket of the test.
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress
from typing import Any

_CHANGES = {"os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.symlink"}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_FOLDER = os.environ.get("MOMENTS_FOLDER", "")
_SOCKET = os.environ.get("MOMENTS_SOCKET", "")
_state = threading.local()


def _wait_for_test(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open":
        if not arguments[2] & _WRITING:
            return
    elif event not in _CHANGES:
        return
    paths = [os.fsdecode(a) for a in arguments if isinstance(a, (str, bytes, os.PathLike))]
    if not paths or getattr(_state, "is_inside", False):
        return
    _state.is_inside = True  # what follows raises events, too
    try:
        if os.path.abspath(paths[0]).startswith(_FOLDER):
            _ask(f"{event} {os.path.relpath(paths[0], _FOLDER)}")
    finally:
        _state.is_inside = False


def _ask(moment: str) -> None:
    import _socket  # every process imports this module: `socket` would cost it 10 ms

    with suppress(OSError):  # the test has ended
        connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            connection.connect(_SOCKET)
            connection.sendall(moment.encode("utf-8", "surrogateescape"))
            connection.recv(1)
        finally:
            connection.close()


if _FOLDER and _SOCKET:
    sys.addaudithook(_wait_for_test)
