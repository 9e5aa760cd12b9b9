"""Cache Limbo data sets in a few large files, in parallel.

::

    samples ──► shards ──► pool ──► worker (one shard) ──► outputs
    ordered     disjoint   one      image rows into the    metadata joined
    paths       ranges     process  shared .npy; pickled   in order; all
                of rows    a CPU    metadata to a          verified, then
                                    part-file              renamed into place

`compress` is the whole of it and `load` reads the result back; ``limbo-compress`` and
``python -m limbo_compress`` are the command line.
"""

from __future__ import annotations

from .compress import Report, compress
from .dataset import Dataset, load
from .errors import CompressError, InputError, OutputError, SampleError, UsageError, WorkerError
from .options import Options
from .outputs import Written
from .parts import Finding

__all__ = [
    "CompressError",
    "Dataset",
    "Finding",
    "InputError",
    "Options",
    "OutputError",
    "Report",
    "SampleError",
    "UsageError",
    "WorkerError",
    "Written",
    "compress",
    "load",
]

__version__ = "0.1.0"
