"""The compiled modules, for which pyproject.toml has no settled place yet."""

from setuptools import Extension, setup

MODULES = [
    Extension(
        f"limbo_compress.{name}",
        [f"limbo_compress/{name}.c"],
        # No fused multiply-add: it would round differently from CPU to CPU.
        extra_compile_args=["-O3", "-ffp-contract=off"],
        # Where it cannot be compiled, numpy or OpenCV does the same.
        optional=True,
    )
    for name in ("_resample", "_unfilter")
]

setup(ext_modules=MODULES)
