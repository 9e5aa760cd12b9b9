"""The command ``limbo-compress``: argv to Options, messages and exit codes."""

from __future__ import annotations

import argparse
import logging
import math
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from .. import Options, Partition, UsageError
from .console import print_error, print_output
from .messages import Parser, with_messages
from .progress import Bar, Lines

if TYPE_CHECKING:
    from .. import OutputFile, Report, Status

__all__ = ["run"]

_NAME = "limbo-compress"
_WARNINGS_SHOWN = 10
_LINES_SHOWN = 20

_MASK_HINT = "--mask takes every word up to the next option: write -- before the directories"
_FLAGS = {"masks": "--mask", "directories": "directory"}

_log = logging.getLogger("limbo_compress")


def run(argv: Sequence[str] | None) -> int:
    """Run the command.

    Parameters
    ----------
    argv : sequence of str or None
        The arguments; None means those of this process.

    Returns
    -------
    int
        The exit code: 0 when everything was published, 2 for a usage error, else 1.

    Raises
    ------
    Stopped
        If a signal arrives.
    """
    return with_messages(partial(_run, argv), _with_flags)


def _run(argv: Sequence[str] | None) -> int:
    arguments = _parser().parse_args(argv)
    if arguments.quiet:
        _log.setLevel(logging.ERROR)
    if arguments.status:
        _print_status(arguments.prefix)
        return 0
    options = _options(arguments)
    report = _compress(options, quiet=arguments.quiet)
    if not arguments.quiet:
        _print_report(report, options.partition)
    return 0


def _print_report(report: Report, partition: str | None) -> None:
    if report.failures:
        failures, path = len(report.failures), report.failures_path
        print_error(f"{failures} bad samples were left out; {path} lists them")
    for warning in report.warnings[:_WARNINGS_SHOWN]:
        print_error(f"warning: {warning}")
    if report.warnings:
        warnings, path = len(report.warnings), report.warnings_path
        print_error(f"{warnings} warnings about samples; {path} lists them")
    for file in report.written:
        print_output(_describe(file))
    if partition is not None:
        print_output(
            f"partition {partition}: {report.samples} samples are done; once all partitions have"
            " ended, the same command without --partition publishes the outputs"
        )


def _with_flags(message: str) -> str:
    """Replace fields of `Options` in backticks by the flags that set them."""

    def flag(match: re.Match[str]) -> str:
        field = match[1]
        if field not in Options.__dataclass_fields__:
            return match[0]
        return _FLAGS.get(field, "--" + field.replace("_", "-"))

    return re.sub(r"`(\w+)`", flag, message)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog=_NAME,
        description="Cache Limbo data sets in a few large files, in parallel.",
        epilog="Outputs: PREFIX-images.npy (samples, H, W, 3) float16 linear light;"
        " PREFIX-masks-NAME.npy (samples, H, W, 1) float32 coverage;"
        " PREFIX-metadata.pickle, a list with a dict for each sample, in the same order.",
    )
    _add_output_options(parser.add_argument_group("what to write"))
    _add_input_options(parser.add_argument_group("input and prefix"))
    _add_run_options(parser.add_argument_group("how to run"))
    _add_cluster_options(parser.add_argument_group("on a cluster"))
    return parser


def _add_output_options(what: argparse._ArgumentGroup) -> None:
    what.add_argument("--images", action="store_true", help="write the images")
    what.add_argument(
        "--image-size",
        type=int,
        nargs=2,
        default=(224, 224),
        metavar=("W", "H"),
        help="size of an image in pixels (default: 224 224)",
    )
    what.add_argument(
        "--mask",
        nargs="*",
        action="append",
        default=[],
        metavar="NAME PATTERN",
        help="write masks: for each NAME the coverage of the labels in which the regular expression"
        " PATTERN is found; may be repeated",
    )
    what.add_argument("--metadata", action="store_true", help="write the metadata")
    what.add_argument(
        "--strip-regions",
        action="store_true",
        help="with --metadata: keep only the categories of the annotations, in the order in which"
        " they first appear",
    )


def _add_input_options(which: argparse._ArgumentGroup) -> None:
    which.add_argument(
        "--prefix",
        default="compressed",
        help="beginning of the output names (default: compressed)",
    )
    which.add_argument(
        "--start", type=int, metavar="N", help="first sample (default: 0, the first of all)"
    )
    which.add_argument(
        "--end", type=int, metavar="N", help="end before this sample (default: after the last)"
    )
    which.add_argument(
        "directory",
        nargs="*",
        help="directory of Limbo data, searched recursively; links are followed, names that start"
        " with a dot are skipped",
    )


def _add_run_options(how: argparse._ArgumentGroup) -> None:
    how.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="processes (default: all the CPUs that this process may use)",
    )
    how.add_argument(
        "--on-error",
        choices=Options.CHOICES["on_error"],
        default="stop",
        help="whether a bad sample stops the job, or is left out of every output (default: stop)",
    )
    how.add_argument(
        "--max-failures",
        metavar="N",
        help="with --on-error skip: fail if more than N, or N%%, of the samples are bad"
        " (default: if 20 in a row are bad)",
    )
    how.add_argument(
        "--max-pixels",
        type=int,
        default=Options.max_pixels,
        metavar="N",
        help="largest image to decode (default: %(default)s)",
    )
    how.add_argument(
        "--decoder",
        choices=Options.CHOICES["decoder"],
        default="auto",
        help="auto decodes plain PNGs (8-bit RGB or RGBA) faster than OpenCV, to the same pixels"
        " (default: auto)",
    )
    how.add_argument("--fresh", action="store_true", help="discard unfinished work and start over")
    how.add_argument(
        "--write-rows",
        choices=Options.CHOICES["write_rows"],
        default="auto",
        help="how rows are written (default: auto, which is pwrite on network filesystems and FUSE,"
        " and where space cannot be reserved, else mmap)",
    )
    how.add_argument("--quiet", action="store_true", help="print nothing but errors")


def _add_cluster_options(cluster: argparse._ArgumentGroup) -> None:
    cluster.add_argument(
        "--partition",
        metavar="I/N",
        help="do only share I (from 0) of N, for job arrays, and publish nothing; auto: the task of"
        " the array that this is. The same command without it does what is left and publishes",
    )
    cluster.add_argument(
        "--status",
        action="store_true",
        help="say what is done, bad and missing, how fast it goes, and who is at work, and change"
        " nothing; needs only --prefix",
    )
    cluster.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="let the workers of a Dask cluster do the work (default: DASK_SCHEDULER_ADDRESS,"
        " unless --workers or --partition is given)",
    )
    cluster.add_argument(
        "--scheduler-file", metavar="PATH", help="the file that the Dask scheduler writes"
    )
    cluster.add_argument(
        "--wait",
        type=float,
        default=Options.wait,
        metavar="SECONDS",
        help="how long to wait at most for the scheduler file, for a Dask worker, and for a sign of"
        " life of a run whose process cannot be seen, as on another machine (default: %(default)g)",
    )


def _options(arguments: argparse.Namespace) -> Options:
    if arguments.mask and not arguments.directory:
        raise UsageError("name at least one directory of Limbo data", "", _MASK_HINT)
    # Pairs, of which `Options` refuses two with one name.
    masks: Any = [pair for words in arguments.mask for pair in _masks(words)]
    return Options(
        directories=tuple(arguments.directory),
        prefix=arguments.prefix,
        images=arguments.images,
        image_size=tuple(arguments.image_size),
        masks=masks,
        metadata=arguments.metadata,
        strip_regions=arguments.strip_regions,
        start=arguments.start,
        end=arguments.end,
        workers=arguments.workers,
        on_error=arguments.on_error,
        max_failures=arguments.max_failures,
        max_pixels=arguments.max_pixels,
        decoder=arguments.decoder,
        fresh=arguments.fresh,
        partition=arguments.partition,
        scheduler=arguments.scheduler,
        scheduler_file=arguments.scheduler_file,
        wait=arguments.wait,
        write_rows=arguments.write_rows,
    )


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

    if quiet:
        return compress(options)
    with closing(Bar() if sys.stderr.isatty() else Lines(print_error)) as progress:
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


def _print_status(prefix: str) -> None:
    from .. import status

    found = status(prefix)
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
