"""Cache Limbo data sets in a few large files, in parallel.

::

    samples ──► shards ──► executor ──► worker (one shard) ──► outputs
    ordered     disjoint   one          image rows into the    metadata joined
    paths       ranges     process      shared .npy; pickled   in order; all
                of rows    per CPU      metadata to a          verified, then
                                        part-file              renamed into place

`compress` runs a whole job and `load` reads its outputs back. `summarize`, `check`, `verify`,
`leaks`, `provenance`, `write_sheet` and `write_gallery` inspect them, `write_card` and
`write_croissant` describe them for others, and `export_dataset` hands them to other tools. The
commands are ``limbo-compress``, which is also ``python -m limbo_compress``, ``limbo-inspect`` and
``limbo-export``.
"""

import sys
from importlib import import_module

# With -m, this runs while the current folder may still hide modules such as typing.
TYPE_CHECKING = False
if TYPE_CHECKING:
    __version__: str

    from .coordinator import Report, compress, status
    from .dataset.dataset import Dataset, concat
    from .dataset.load import load
    from .dataset.provenance import Provenance, provenance
    from .dataset.row_choice import choose_rows
    from .dataset.row_views import Rows
    from .dataset.splits import Split
    from .dependencies import installation
    from .errors import (
        CompressError,
        InputError,
        LimboError,
        MachineError,
        MissingError,
        OutputError,
        SampleError,
        Stopped,
        UsageError,
        WorkerError,
    )
    from .export.exporter import ExportReport, export_dataset
    from .export.writers import EXPORT_FORMATS
    from .formats.geometry import Box, Contour
    from .formats.shard_record import SampleIssue
    from .inspect.card import write_card
    from .inspect.check import CheckReport, check
    from .inspect.croissant import write_croissant
    from .inspect.leaks import LeakedPair, LeakReport, SharedGroups, leaks
    from .inspect.summary import Summary, summarize
    from .inspect.verify import Finding, VerifyReport, verify
    from .inspect.views.gallery import write_gallery
    from .inspect.views.sheet import write_sheet
    from .options import Options
    from .output.assemble import OutputFile
    from .output.status import Status
    from .partition import Partition

__all__ = [
    "EXPORT_FORMATS",
    "Box",
    "CheckReport",
    "CompressError",
    "Contour",
    "Dataset",
    "ExportReport",
    "Finding",
    "InputError",
    "LeakReport",
    "LeakedPair",
    "LimboError",
    "MachineError",
    "MissingError",
    "Options",
    "OutputError",
    "OutputFile",
    "Partition",
    "Provenance",
    "Report",
    "Rows",
    "SampleError",
    "SampleIssue",
    "SharedGroups",
    "Split",
    "Status",
    "Stopped",
    "Summary",
    "UsageError",
    "VerifyReport",
    "WorkerError",
    "check",
    "choose_rows",
    "compress",
    "concat",
    "export_dataset",
    "installation",
    "leaks",
    "load",
    "provenance",
    "status",
    "summarize",
    "verify",
    "write_card",
    "write_croissant",
    "write_gallery",
    "write_sheet",
]

# Imported when first used: the command installs its signal handlers before anything heavy, and
# a program that only reads outputs needs none of the compressor.
_HOMES = {
    "EXPORT_FORMATS": ".export.writers",
    "Box": ".formats.geometry",
    "CheckReport": ".inspect.check",
    "Contour": ".formats.geometry",
    "Dataset": ".dataset.dataset",
    "ExportReport": ".export.exporter",
    "Finding": ".inspect.verify",
    "LeakReport": ".inspect.leaks",
    "LeakedPair": ".inspect.leaks",
    "Options": ".options",
    "OutputFile": ".output.assemble",
    "Partition": ".partition",
    "Provenance": ".dataset.provenance",
    "Report": ".coordinator",
    "Rows": ".dataset.row_views",
    "SampleIssue": ".formats.shard_record",
    "SharedGroups": ".inspect.leaks",
    "Split": ".dataset.splits",
    "Status": ".output.status",
    "Summary": ".inspect.summary",
    "VerifyReport": ".inspect.verify",
    "check": ".inspect.check",
    "choose_rows": ".dataset.row_choice",
    "compress": ".coordinator",
    "concat": ".dataset.dataset",
    "export_dataset": ".export.exporter",
    "installation": ".dependencies",
    "leaks": ".inspect.leaks",
    "load": ".dataset.load",
    "provenance": ".dataset.provenance",
    "status": ".coordinator",
    "summarize": ".inspect.summary",
    "verify": ".inspect.verify",
    "write_card": ".inspect.card",
    "write_croissant": ".inspect.croissant",
    "write_gallery": ".inspect.views.gallery",
    "write_sheet": ".inspect.views.sheet",
}
_FREE_THREADED = (
    "limbo_compress does not run on free-threaded Python, for which OpenCV and orjson have no"
    " wheels; install it on an ordinary build (python3.14, not python3.14t)"
)


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("limbo-compress")
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in _HOMES and "t" in sys.abiflags:
        raise ImportError(_FREE_THREADED)
    return getattr(import_module(_HOMES.get(name, ".errors"), __name__), name)
