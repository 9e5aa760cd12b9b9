"""What another machine must have to take part in a job.

A worker gets `probe` by value, so that it can answer even where this package is not installed. It
imports nothing of ours.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Probe", "versions"]

_PACKAGES = ("limbo-compress", "numpy", "opencv-python-headless", "orjson")
_PACKAGES_FOR_MASKS = ("OpenEXR", "mmh3")


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the versions of Python and of some packages; empty for those that are missing."""
    from importlib import metadata  # here because it takes as long to import as the whole package

    found = {"Python": ".".join(map(str, sys.version_info[:2]))}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = ""
    return found


@dataclass(frozen=True)
class Probe:
    """Asks a machine if it can work for a job. Called there, it returns what it lacks.

    Attributes
    ----------
    versions : dict of str to str
        What the coordinator has.
    token : str
        A file in the work folder that nobody has looked up before: a network client remembers for
        a while that a file was missing.
    sample : str
        The first metadata file.
    """

    versions: dict[str, str]
    token: str
    sample: str

    @classmethod
    def make(cls, folder: str, run: str, sample: str, has_masks: bool) -> Probe:
        """Make the probe of a job, and its token.

        Raises
        ------
        OSError
            If the token cannot be written.
        """
        token = os.path.join(folder, f"{run}-token")
        with open(token, "x", encoding="ascii") as stream:
            stream.write(run)
        packages = _PACKAGES + _PACKAGES_FOR_MASKS * has_masks
        return cls(versions(packages), token, sample)

    def __call__(self) -> str:
        """Return what this machine lacks, in words; empty if nothing."""
        here = versions(name for name in self.versions if name != "Python")
        for name, version in self.versions.items():
            if here[name] != version:
                return f"has {name} {here[name] or 'not'} where {version or 'none'} is needed"
        folder = os.path.dirname(self.token)
        if not _lists(self.token):
            return f"does not see the work folder {folder}"
        if not os.access(folder, os.W_OK | os.X_OK):
            return f"may not write to the work folder {folder}"
        if not _lists(self.sample):
            return f"does not see the sample {self.sample}"
        return ""


def _lists(path: str) -> bool:
    """Whether a file is in the listing of its folder, which is fresh on a network, too."""
    folder, name = os.path.split(path)
    try:
        return name in os.listdir(folder)
    except OSError:
        return False
