"""What does the work here: libraries in versions that are known to do it right, compiled code.

Another package can bring an older copy of one: ``opencv-python`` 4 installs over the files of
``opencv-python-headless`` 5, which pip does not notice.
"""

from __future__ import annotations

import os
import re
import zlib
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from .errors import MachineError

__all__ = [
    "NOT_COMPILED",
    "check_installed",
    "decoders",
    "installation",
    "load",
    "why_not_compiled",
]

NOT_COMPILED = "not compiled"

# The oldest version of each module, as in pyproject.toml. mmh3 does not tell its own.
_OLDEST = {"numpy": (2,), "cv2": (5,), "orjson": (3, 10), "OpenEXR": (3, 5)}
_PACKAGES = {"cv2": "opencv-python-headless"}
# Other packages that install the same module.
_RIVALS = {"cv2": "opencv-python opencv-contrib-python opencv-contrib-python-headless"}


def load(name: str) -> Any:
    """Import a library by the name of its module.

    Raises
    ------
    MachineError
        If its version is too old, or cannot be told.
    ImportError
        If it is missing or damaged.
    """
    module = import_module(name)
    _check(name, str(getattr(module, "__version__", "")), str(getattr(module, "__file__", name)))
    return module


def check_installed(name: str) -> None:
    """Check a library without importing it, as far as its files tell.

    Raises
    ------
    MachineError
        If it is missing or too old.
    """
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise MachineError(f"the library {name} is missing", "", _how_to_install(name))
    if version := _version_beside(name, spec.origin):
        _check(name, version, spec.origin)


def decoders(images: bool, masks: bool) -> dict[str, str]:
    """Return the versions of the libraries on which the pixels depend, without importing them.

    Two versions of OpenCV may decode a JPEG to other values, and two of OpenEXR a lossy channel.
    zlib and ISA-L inflate to the same bytes, and all else is computed here. A version is
    "unknown" if no file tells it.
    """
    names = ["cv2"] * images + ["OpenEXR"] * masks
    specs = {_PACKAGES.get(name, name): (name, find_spec(name)) for name in names}
    return {
        package: (spec and spec.origin and _version_beside(name, spec.origin)) or "unknown"
        for package, (name, spec) in specs.items()
    }


def _version_beside(name: str, origin: str) -> str:
    """Read a library's version next to its file ``origin``; empty if nothing tells it.

    OpenCV takes a quarter of a second to import, and importlib.metadata twice as long as this
    package. Wheels of OpenCV have a file ``version.py``; for others, pip leaves a folder.
    """
    folder = os.path.dirname(origin)
    with suppress(OSError):
        if name == "cv2":
            with open(os.path.join(folder, "version.py"), encoding="utf-8") as stream:
                found = re.findall(r'version = "(.*)"', stream.read())
        else:
            package = re.compile(rf"{name}-(.+)\.dist-info", re.IGNORECASE)
            found = [match[1] for match in map(package.fullmatch, os.listdir(folder)) if match]
        return " or ".join(sorted(found))
    return ""


def why_not_compiled(module: str) -> str:
    """Return why a compiled module of this package is not used, or an empty string if it is."""
    try:
        import_module(f"{__package__}.{module}")
    except ModuleNotFoundError:
        return NOT_COMPILED
    except ImportError as error:
        return str(error)
    return ""


def installation() -> dict[str, str]:
    """Say what does the work here, as ``limbo-compress --version`` prints it.

    Imports the libraries to ask them: what is installed over the files of one changes neither its
    name nor its version in the list of packages.

    Returns
    -------
    dict of str to str
        For each part of the work, whether it is compiled, and which libraries do it.
    """

    def compiled_or(other: str, module: str, compiled: str = "compiled") -> str:
        why = why_not_compiled(module)
        return f"{other} ({why})" if why else compiled

    opencv = _describe("cv2")
    inflate = _describe("isal") if find_spec("isal") else f"zlib {zlib.ZLIB_RUNTIME_VERSION}"
    plain = compiled_or("scan lines by OpenEXR", "imaging._scanlines", _describe("zlib_ng"))
    return {
        "plain PNGs": compiled_or(opencv, "imaging._unfilter", f"compiled, {inflate}"),
        "other images": opencv,
        "resampling": compiled_or(_describe("numpy"), "imaging._resample"),
        "JSON": _describe("orjson"),
        "masks": f"{_describe('OpenEXR')}, {_describe('mmh3')}, {plain}",
        "tensors": compiled_or(_describe("numpy"), "dataset._planes"),
    }


def _describe(name: str) -> str:
    """Return the package and the version of a module, as the module itself tells them."""
    package = _PACKAGES.get(name, name)
    try:
        module = import_module(name)
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name == name:
            return f"{name} is missing"
        return f"{name} cannot be imported: {error}"
    version = str(getattr(module, "__version__", ""))
    if name == "cv2":
        return _describe_opencv(module, version)
    if not version:  # as mmh3
        from importlib import metadata  # here because it takes as long to import as this package

        version = metadata.version(package)
    return f"{package} {version}"


def _describe_opencv(cv2: Any, version: str) -> str:
    """Name the wheel that OpenCV is from, by the flags in its ``version.py``."""
    wheel: Any = getattr(cv2, "version", None)
    if not str(getattr(wheel, "opencv_version", "")).startswith(f"{version}."):
        return f"OpenCV {version or 'of unknown version'}, {cv2.__file__}"  # of no wheel
    contrib, headless = "contrib-" * wheel.contrib, "-headless" * wheel.headless
    return f"opencv-{contrib}python{headless} {wheel.opencv_version}"


def _check(name: str, version: str, path: str) -> None:
    oldest = _OLDEST.get(name)
    if oldest is None or tuple(map(int, re.findall(r"\d+", version)[:2])) >= oldest:
        return
    needed = ".".join(map(str, oldest))
    raise MachineError(
        f"{name} has version {version or 'unknown'}, but {needed} or later is needed",
        path,
        _how_to_install(name),
    )


def _how_to_install(name: str) -> str:
    package = _PACKAGES.get(name, name)
    install = f"pip install --force-reinstall {package}"
    if name in _RIVALS:
        return f"pip uninstall {_RIVALS[name]}; {install}"
    return install
