"""Compiled modules. pyproject.toml has no stable way to declare them yet."""

from setuptools import Extension, setup

MODULES = [
    Extension(
        f"limbo_compress.{name}",
        [f"limbo_compress/{name.replace('.', '/')}.c"],
        # No fused multiply-add: it rounds differently, and not every CPU has it.
        extra_compile_args=["-O3", "-ffp-contract=off"],
        # Without a compiler, numpy and OpenCV take over.
        optional=True,
    )
    for name in ("imaging._resample", "imaging._unfilter", "dataset._planes")
]

setup(ext_modules=MODULES)
