"""Print what is captured where the kernel refuses memfd_create(2): ``python -m tests.run.refused``.

Its arguments are the error number and, optionally, the folder for temporary files.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
import tempfile

from limbo_compress.run.sample_warnings import captured

# Of memfd_create(2) and utimensat(2), by the kind of machine.
SYSTEM_CALLS = {"x86_64": 319, "aarch64": 279}
UTIMENSAT = {"x86_64": 280, "aarch64": 88}
# From linux/prctl.h, linux/seccomp.h and linux/bpf_common.h.
_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _SECCOMP_MODE_FILTER = 22, 38, 2
_RET_ERRNO, _RET_ALLOW = 0x00050000, 0x7FFF0000
_LOAD_WORD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06


class _Instruction(ctypes.Structure):
    _fields_ = [
        ("code", ctypes.c_uint16),
        ("jump_true", ctypes.c_uint8),
        ("jump_false", ctypes.c_uint8),
        ("value", ctypes.c_uint32),
    ]


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_uint16), ("instructions", ctypes.POINTER(_Instruction))]


def refuse(system_call: int, error: int) -> None:
    """Let a system call fail in this process and its children, as a sandbox does."""
    instructions = (_Instruction * 4)(
        _Instruction(_LOAD_WORD, 0, 0, 0),
        _Instruction(_JUMP_IF_EQUAL, 0, 1, system_call),
        _Instruction(_RETURN, 0, 0, _RET_ERRNO | error),
        _Instruction(_RETURN, 0, 0, _RET_ALLOW),
    )
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    program = _Program(len(instructions), instructions)
    if prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or prctl(
        _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0
    ):
        raise OSError(ctypes.get_errno(), "seccomp(2) is refused")


if __name__ == "__main__":
    refuse(SYSTEM_CALLS[platform.machine()], int(sys.argv[1]))
    if sys.argv[2:]:
        tempfile.tempdir = sys.argv[2]
    with captured() as take:
        os.write(2, b"inside\n")
        print(take())
    os.write(2, b"outside\n")
