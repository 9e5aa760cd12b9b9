"""File calls that fail once: a library that is loaded before all others and fails one of them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

__all__ = ["fail_once"]

# The first call of any process on a path that ends in FAIL_PATH fails, and removes FAIL_ONCE. If
# that is empty, all of them fail.
_SOURCE = r"""
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int fails(const char *call, const char *path) {
    const char *end = getenv("FAIL_PATH"), *once = getenv("FAIL_ONCE");
    if (!path || !end || !once || !strstr(getenv("FAIL_CALL"), call)) return 0;
    size_t size = strlen(path), length = strlen(end);
    if (size < length || strcmp(path + size - length, end)) return 0;
    if (*once && syscall(SYS_unlinkat, AT_FDCWD, once, 0)) return 0;
    errno = atoi(getenv("FAIL_ERRNO"));
    return 1;
}
#define OPEN(name) int name(const char *path, int flags, ...) { \
    mode_t mode = 0; va_list rest; va_start(rest, flags); \
    if (flags & (O_CREAT | O_TMPFILE)) mode = va_arg(rest, mode_t); \
    va_end(rest); \
    if (fails("open", path)) return -1; \
    int (*next)(const char *, int, ...) = dlsym(RTLD_NEXT, #name); \
    return next(path, flags, mode); }
OPEN(open)
OPEN(open64)
DIR *opendir(const char *path) {
    if (fails("list", path)) return NULL;
    DIR *(*next)(const char *) = dlsym(RTLD_NEXT, "opendir");
    return next(path);
}
#define STAT(name, kind) int name(const char *path, struct kind *found) { \
    if (fails("stat", path)) return -1; \
    int (*next)(const char *, struct kind *) = dlsym(RTLD_NEXT, #name); \
    return next(path, found); }
STAT(stat, stat)
STAT(stat64, stat64)
"""


def fail_once(folder: Path, path_end: str, number: int, call: str = "open") -> dict[str, str]:
    """Return an environment in which one call fails.

    Parameters
    ----------
    folder : Path
        For the library and the file that is removed when the call has failed.
    path_end : str
        The path must end so.
    number : int
        The error.
    call : str
        ``open``, ``list`` or ``stat``.
    """
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    (folder / "fail.c").write_text(_SOURCE)
    library = folder / "fail.so"
    command = ["gcc", "-shared", "-fPIC", "-O1", "-o", str(library), str(folder / "fail.c"), "-ldl"]
    subprocess.run(command, check=True)
    (folder / "once").touch()
    return {
        "LD_PRELOAD": str(library),
        "FAIL_PATH": path_end,
        "FAIL_ERRNO": str(number),
        "FAIL_ONCE": str(folder / "once"),
        "FAIL_CALL": call,
    }
