"""What pyproject.toml has no stable way to declare: compiled modules, and the README for PyPI."""

import os
import re
import sysconfig
import tomllib
from pathlib import Path

from setuptools import Extension, setup

if sysconfig.get_config_var("Py_GIL_DISABLED"):
    raise SystemExit(
        "limbo_compress does not run on free-threaded Python, for which OpenCV and orjson have no"
        " wheels; install it on an ordinary build (python3.14, not python3.14t)"
    )

MODULES = [
    Extension(
        f"limbo_compress.{name}",
        [f"limbo_compress/{name.replace('.', '/')}.c"],
        # The stable ABI of Python 3.11: one wheel serves all later versions.
        define_macros=[("Py_LIMITED_API", "0x030B0000")],
        py_limited_api=True,
        # The compiler fuses multiplications and additions only where the code says so.
        extra_compile_args=["-O3", "-ffp-contract=off"],
        # Without a compiler, numpy and OpenCV take over, but a wheel that is published has it all.
        optional="LIMBO_COMPRESS_MUST_COMPILE" not in os.environ,
    )
    for name in ("imaging._resample", "imaging._scanlines", "imaging._unfilter", "dataset._planes")
]

ROOT = Path(__file__).parent


def pypi_readme() -> str:
    """Return the README with links to the repository, since PyPI has no other file of it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    source = project["urls"]["Source"]
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    text = re.sub(r"(!\[[^]]*\]\()(?!https:)", rf"\1{source}/raw/main/", text)
    return re.sub(r"(\]\()(?!https:|#)", rf"\1{source}/blob/main/", text)


if __name__ == "__main__":
    setup(
        ext_modules=MODULES,
        long_description=pypi_readme(),
        long_description_content_type="text/markdown",
        options={"bdist_wheel": {"py_limited_api": "cp311"}},
    )
