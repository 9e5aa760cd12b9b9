"""The compiled module, for which pyproject.toml has no settled place yet."""

from setuptools import Extension, setup

RESAMPLE = Extension(
    "limbo_compress._resample",
    ["limbo_compress/_resample.c"],
    # No fused multiply-add: it would round differently from CPU to CPU.
    extra_compile_args=["-O3", "-ffp-contract=off"],
    # Where it cannot be compiled, numpy does the same.
    optional=True,
)

setup(ext_modules=[RESAMPLE])
