"""How outputs were made: the command that would make them again."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from typing import Any

from .. import limits
from ..errors import shown
from .dataset import Dataset
from .source import Source

__all__ = ["Provenance", "provenance"]

# What an index may say. With anything else, a command without it would make something else.
_KNOWN = {
    *("version", "pixels", "opencv", "samples", "images", "image_size", "masks", "strip_regions"),
    *("start", "end", "max_pixels", "on_error", "directories", "warnings"),
}
_UNKNOWN = "the metadata do not say how they were made"


@dataclass(frozen=True)
class Provenance:
    """How the outputs of a prefix were made, as their index says it.

    Attributes
    ----------
    prefix : str
    made : dict or None
        The version of this program, the number of its pixels, the options that decide bytes, and
        a digest of the list of samples; None if the metadata do not say it.
    command : tuple of str
        The words of the command that would make the outputs again, while the samples are what they
        were; empty if it is not known.
    """

    prefix: str
    made: dict[str, Any] | None
    command: tuple[str, ...]

    @property
    def line(self) -> str:
        """The command for a shell; empty if it is not known."""
        return " ".join(map(_quoted, self.command))

    def describe(self) -> str:
        """Describe it in one line, a comment for a shell."""
        if self.made is None:
            return f"# {shown(self.prefix)}: {_UNKNOWN}"
        names = ("version", "pixels", "opencv", "samples")
        found = ", ".join(f"{name} {self.made[name]}" for name in names if name in self.made)
        problem = "" if self.command else "; this program does not know the command"
        return shown(f"# {self.prefix}: limbo-compress {found}{problem}")

    def as_json(self) -> dict[str, Any]:
        """Return it as values that JSON has."""
        return {**vars(self), "line": self.line}


def provenance(dataset: Dataset) -> list[Provenance]:
    """Return how the outputs of each prefix were made.

    Parameters
    ----------
    dataset : Dataset

    Returns
    -------
    list of Provenance
    """
    return [_provenance(source) for source, _, _ in dataset.parts()]


def _provenance(source: Source) -> Provenance:
    made = source.index.made if source.index else None
    command: tuple[str, ...] = ()
    if made and made.keys() <= _KNOWN:
        try:
            command = _command(source, made)
        except (KeyError, TypeError, ValueError):  # made by a later version, or by hand
            command = ()
    return Provenance(source.given, made or None, command)


def _command(source: Source, made: dict[str, Any]) -> tuple[str, ...]:
    """Return the words of the command; what is not as this version writes it raises an error."""
    prefix = source.given
    words = ["--prefix", os.path.join(".", prefix) if prefix.startswith("-") else prefix]
    words += ["--images"] * made["images"]
    width, height = made["image_size"]
    words += ["--image-size", str(width), str(height)]
    masks = [word for name, pattern in made["masks"] for word in (name, pattern)]
    if any(word.startswith("-") for word in masks):
        raise ValueError("the command takes no such mask, but `compress` does")
    words += ["--mask", *masks] if masks else []
    words += ["--metadata"] + ["--strip-regions"] * made["strip_regions"]
    for name in ("start", "end"):
        words += [] if made[name] is None else [f"--{name}", str(int(made[name]))]
    if made["max_pixels"] != limits.DEFAULT_PIXELS:
        words += ["--max-pixels", str(int(made["max_pixels"]))]
    if "on_error" in made:  # the limit that was given is not known
        words += ["--on-error", made["on_error"], "--max-failures", "100%"]
    return ("limbo-compress", *words, "--", *map(source.moved, made["directories"]))


def _quoted(word: str) -> str:
    """Quote a word for a shell; as bash and zsh do it if it has characters that are not printed."""
    if word.isprintable():
        return shlex.quote(word)
    plain = (
        chr(byte) if 31 < byte < 127 and byte not in b"\\'" else f"\\x{byte:02x}"
        for byte in os.fsencode(word)
    )
    return f"$'{''.join(plain)}'"
