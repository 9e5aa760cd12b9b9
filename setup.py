"""Compiled modules. pyproject.toml has no stable way to declare them yet."""

from setuptools import Extension, setup

MODULES = [
    Extension(
        f"limbo_compress.imaging.{name}",
        [f"limbo_compress/imaging/{name}.c"],
        # No fused multiply-add: it rounds differently, and not every CPU has it.
        extra_compile_args=["-O3", "-ffp-contract=off"],
        # Without a compiler, numpy and OpenCV take over.
        optional=True,
    )
    for name in ("_resample", "_unfilter")
]

setup(ext_modules=MODULES)
