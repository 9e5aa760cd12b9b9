"""The command ``limbo-compress``: argv to Options, messages and exit codes."""

from __future__ import annotations

import argparse
import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from itertools import islice
from typing import TYPE_CHECKING, Any

from .. import Options, Partition, UsageError
from .console import print_error, print_output
from .messages import print_json
from .parser import Parser
from .progress import shown_progress

if TYPE_CHECKING:
    from .. import OutputFile, Report, Status

__all__ = ["parser", "run"]

_WARNINGS_SHOWN = 10
_LINES_SHOWN = 20

_MASK_HINT = "--mask takes every word up to the next option: write -- before the directories"

_log = logging.getLogger("limbo_compress")

_HELPS = {
    "--images": "write the images",
    "--image-size": "size of an image in pixels (default: 224 224)",
    "--mask": "write masks: for each NAME the coverage of the labels in which the regular"
    " expression PATTERN is found; may be repeated",
    "--metadata": "write the metadata",
    "--strip-regions": "with --metadata: keep only the categories of the annotations, in the order"
    " in which they first appear",
    "--prefix": "beginning of the output names (default: compressed)",
    "--start": "first sample (default: 0, the first of all)",
    "--end": "end before this sample (default: after the last)",
    "directory": "directory of Limbo data, searched recursively; links are followed, names that"
    " start with a dot are skipped",
    "--on-error": "whether a bad sample stops the job, or is left out of every output"
    " (default: stop)",
    "--max-failures": "with --on-error skip: fail if more than N, or N%%, of the samples are bad"
    " (default: if 20 in a row are bad)",
    "--max-pixels": "largest image to decode (default: %(default)s)",
    "--decoder": "auto decodes plain PNGs (8-bit RGB or RGBA) faster than OpenCV, to the same"
    " pixels (default: auto)",
    "--fresh": "discard unfinished work, copy nothing from older outputs, and start over",
    "--write-rows": "how rows are written (default: auto, which is pwrite on network filesystems"
    " and FUSE, and where space cannot be reserved, else mmap)",
    "--partition": "do only share I (from 0) of N, for job arrays, and publish nothing; auto: the"
    " task of the array that this is. The same command without it does what is left and publishes",
    "--status": "say what is done, bad and missing, how fast it goes, and who is at work, and"
    " change nothing; needs only --prefix",
    "--scheduler": "let the workers of a Dask cluster do the work (default: DASK_SCHEDULER_ADDRESS,"
    " unless --workers or --partition is given)",
    "--scheduler-file": "the file that the Dask scheduler writes",
    "--wait": "how long to wait at most for the scheduler file, for a Dask worker, and for a sign"
    " of life of a run whose process cannot be seen, as on another machine (default: %(default)g)",
}


def run(arguments: argparse.Namespace) -> int:
    """Run the command. The exit code is 0 when everything was published."""
    if arguments.status:
        _print_status(arguments)
        return 0
    options = _options(arguments)
    report = _compress(options, quiet=arguments.quiet)
    if arguments.json:
        print_json(asdict(report))
    elif not arguments.quiet:
        _print_report(report, options)
    return 0


def _print_report(report: Report, options: Options) -> None:
    bad = ("bad sample was left out", "bad samples were left out")
    _print_count(len(report.failures), *bad, report.failures_path)
    for warning in report.warnings[:_WARNINGS_SHOWN]:
        print_error(f"warning: {warning}")
    said = ("warning about a sample", "warnings about samples")
    _print_count(len(report.warnings), *said, report.warnings_path)
    for file in report.written:
        print_output(_describe(file))
    if options.partition is not None and not report.is_up_to_date:
        print_output(
            f"partition {options.partition}: {report.samples} samples are done; once all partitions"
            " have ended, the same command without --partition publishes the outputs"
        )
    if report.is_up_to_date:
        print_output(f"{options.prefix}: up to date")
    elif report.copied:
        print_output(f"copied {report.copied}, made {report.made}")


def _print_count(count: int, one: str, many: str, path: str | None) -> None:
    """Print how many there are, if any, and the file that lists them."""
    if count:
        what, them = (one, "it") if count == 1 else (many, "them")
        print_error(f"{count} {what}; {path} lists {them}")


def parser() -> Parser:
    """Make the parser of the arguments."""
    made = Parser(
        "compress",
        "[options] [--] directory ...",
        (
            "--prefix test --images --metadata -- campaign17",
            "--prefix test --images --mask all . big '^48' -- campaign17",
        ),
        "Pack Limbo data sets into a few large files, in parallel.",
        "Outputs: PREFIX-images.npy (samples, H, W, 3) float16 linear light;"
        " PREFIX-masks-NAME.npy (samples, H, W, 1) float32 coverage;"
        " PREFIX-metadata.pickle, a list with a dict for each sample, in the same order."
        " -- ends the options: what follows is a directory.",
        _HELPS,
    )
    flag = made.group("what to write")
    flag("--images", action="store_true")
    flag("--image-size", type=int, nargs=2, default=(224, 224), metavar=("W", "H"))
    flag("--mask", nargs="*", action="append", default=[], metavar="NAME PATTERN")
    flag("--metadata", action="store_true")
    flag("--strip-regions", action="store_true")
    flag = made.group("input and prefix")
    flag("--prefix", default="compressed")
    flag("--start", type=int, metavar="N")
    flag("--end", type=int, metavar="N")
    flag("directory", nargs="*")
    flag = made.add_run_flags()
    flag("--on-error", choices=Options.CHOICES["on_error"], default="stop")
    flag("--max-failures", metavar="N")
    flag("--max-pixels", type=int, default=Options.max_pixels, metavar="N")
    flag("--decoder", choices=Options.CHOICES["decoder"], default="auto")
    flag("--fresh", action="store_true")
    flag("--write-rows", choices=Options.CHOICES["write_rows"], default="auto")
    flag = made.group("on a cluster")
    flag("--partition", metavar="I/N")
    flag("--status", action="store_true")
    flag("--scheduler", metavar="ADDRESS")
    flag("--scheduler-file", metavar="PATH")
    flag("--wait", type=float, default=Options.wait, metavar="SECONDS")
    return made


def _options(arguments: argparse.Namespace) -> Options:
    if arguments.mask and not arguments.directory:
        raise UsageError("name at least one directory of Limbo data", "", _MASK_HINT)
    # Pairs, of which `Options` refuses two with one name.
    masks: Any = [pair for words in arguments.mask for pair in _masks(words)]
    given = vars(arguments) | {"directories": arguments.directory, "masks": masks}
    return Options(**{field.name: given[field.name] for field in fields(Options)})


def _masks(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the name and the pattern of each mask that one `--mask` asks for."""
    if len(words) % 2:
        problem = f"--mask {' '.join(words)}: names and patterns go in pairs"
        raise UsageError(problem, "", _MASK_HINT)
    if not words:
        _log.warning("`masks` without NAME PATTERN has no effect")
    yield from zip(words[0::2], words[1::2], strict=True)


def _compress(options: Options, quiet: bool) -> Report:
    from .. import compress  # here so that --help and usage errors are fast

    if options.is_on_dask:
        _silence_dask()

    with shown_progress(quiet) as progress:
        return compress(options, progress)


def _silence_dask() -> None:
    """Keep Dask's own messages and tracebacks from stderr; what matters is raised."""
    import warnings

    import distributed  # noqa: F401  # it configures its loggers

    warnings.filterwarnings("ignore", module=r"distributed\b")
    for name in list(logging.root.manager.loggerDict):
        if name.partition(".")[0] in ("asyncio", "distributed", "tornado"):
            logger = logging.getLogger(name)
            logger.handlers[:] = [logging.NullHandler()]
            logger.setLevel(logging.CRITICAL)
            logger.propagate = False


def _describe(file: OutputFile) -> str:
    return f"{file.path}  {file.shape}  {file.dtype}  {file.bytes:,} bytes"


def _print_status(arguments: argparse.Namespace) -> None:
    from .. import status

    found = status(arguments.prefix)
    if arguments.json:
        print_json(asdict(found))
        return
    if found.samples is None:
        print_output(f"{found.folder}: there is no unfinished work")
        return
    bad = f", {len(found.failures)} of them bad" if found.failures else ""
    print_output(f"{found.folder}: {found.done} of {found.samples} samples are done{bad}")
    if found.is_publication_interrupted and not found.at_work:
        print_output(
            "publication was interrupted: the next run puts older outputs back, or ends it"
        )
    if found.rate and found.seconds_left:
        from datetime import timedelta  # here because it takes 2 % of the start

        left = timedelta(seconds=math.ceil(found.seconds_left))
        print_output(f"{found.rate:.3g} samples/s lately; at this rate, {left} is left")
    for who, runs in (("at work", found.at_work), ("lost", found.lost)):
        _print_some(f"{who}{_place(lock)}: {name}" for lock, name in runs.items())
    _print_some(_describe_partition(found, partition) for partition in found.unfinished())
    _print_some(f"bad: row {issue.row}: {issue}" for issue in found.failures)
    _print_some(f"missing: rows {rows.start} to {rows.stop - 1}" for rows in found.missing)


def _place(lock: str) -> str:
    """Where a run is at work that holds a lock."""
    partition = lock.removeprefix("partition-")
    return "" if partition == lock else f" on partition {partition}"


def _describe_partition(found: Status, partition: Partition) -> str:
    samples, left = len(partition.rows(found.samples or 0)), found.missing_of(partition)
    return f"partition {partition}: {samples - left} of {samples} samples"


def _print_some(lines: Iterator[str]) -> None:
    """Print the first lines, and say if there are more."""
    for line in islice(lines, _LINES_SHOWN):
        print_output(line)
    if next(lines, None) is not None:
        print_output("...")
