"""The command line: argv to Options; progress, messages, exit codes. Only this file prints."""

from __future__ import annotations

import argparse
import io
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from . import __version__, cpus
from .compress import Report, compress
from .errors import CompressError, Stopped, UsageError
from .options import Options
from .outputs import Written
from .pool import ONE_THREAD

if TYPE_CHECKING:
    from tqdm import tqdm

__all__ = ["main"]

_NAME = "limbo-compress"
_LOG_SECONDS = 30
_NICENESS = 10
_WARNINGS_SHOWN = 10
# Schedulers send SIGUSR1 where they are asked to warn ahead of the time limit.
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)

_log = logging.getLogger(__package__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; by default those of this process.

    Returns
    -------
    int
        The exit code: 0 when everything was published, 2 for a usage error, 128 and the
        signal's number for a signal, else 1.
    """
    os.environ.update(ONE_THREAD)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr: a name may be any bytes
    _log.addHandler(_SayLogged())
    _log.propagate = False
    _install_signal_handlers()
    try:
        arguments = _parser().parse_args(argv)
        if arguments.quiet:
            _log.setLevel(logging.ERROR)
        options = _options(arguments)
        report = _compress(options, quiet=arguments.quiet)
    except (CompressError, Stopped) as error:
        _say(str(error))
        return error.exit_code
    if not arguments.quiet:
        _tell(report)
    return 0


def _tell(report: Report) -> None:
    if report.failures:
        path = next(file.path for file in report.written if file.path.endswith(".jsonl"))
        _say(f"{len(report.failures)} bad samples were left out; {path} lists them")
    for warning in report.warnings[:_WARNINGS_SHOWN]:
        _say(f"warning: {warning}")
    if len(report.warnings) > _WARNINGS_SHOWN:
        _say(f"warning: {len(report.warnings) - _WARNINGS_SHOWN} more like these")
    for file in report.written:
        print(_line(file))


def _install_signal_handlers() -> None:
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup leaves SIGHUP
            signal.signal(number, _stop)


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    for other in _SIGNALS:  # once is enough: another one would disturb the end
        signal.signal(other, signal.SIG_IGN)
    raise Stopped(signal.Signals(number).name, 128 + number)


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, like all others here."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, "", f"{_NAME} --help lists the options")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog=_NAME,
        description="Cache Limbo data sets in a few large files, in parallel.",
        epilog="Outputs: PREFIX-images.npy (samples, H, W, 3) float16 linear light;"
        " PREFIX-masks-NAME.npy (samples, H, W, 1) float32 coverage;"
        " PREFIX-metadata.pickle, a list with a dict for each sample, in the same order.",
    )
    parser.add_argument("--version", action="version", version=f"{_NAME} {__version__}")
    _add_what(parser.add_argument_group("what to write"))
    _add_which(parser.add_argument_group("from what, and to where"))
    _add_how(parser.add_argument_group("how"))
    return parser


def _add_what(what: argparse._ArgumentGroup) -> None:
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
        default=[],
        metavar="NAME PATTERN",
        help="write masks: each is the coverage of the labels that a regular expression finds",
    )
    what.add_argument("--metadata", action="store_true", help="write the metadata")
    what.add_argument(
        "--strip-regions",
        action="store_true",
        help="keep only the categories of the annotations in the metadata",
    )


def _add_which(which: argparse._ArgumentGroup) -> None:
    which.add_argument(
        "--prefix",
        default="compressed",
        help="what the names of the outputs begin with (default: compressed)",
    )
    which.add_argument(
        "--start", type=int, metavar="N", help="first sample (default: 0, the first of all)"
    )
    which.add_argument(
        "--end", type=int, metavar="N", help="end before this sample (default: after the last)"
    )
    which.add_argument("directory", nargs="+", help="directory of Limbo data, searched recursively")


def _add_how(how: argparse._ArgumentGroup) -> None:
    how.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="processes (default: all the CPUs that this process may use)",
    )
    how.add_argument(
        "--on-error",
        choices=("stop", "skip"),
        default="stop",
        help="whether a bad sample stops the job, or is left out of every output (default: stop)",
    )
    how.add_argument(
        "--max-failures",
        metavar="N",
        help="with --on-error skip: fail if more than N, or N%%, of the samples are bad",
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
        choices=("auto", "opencv"),
        default="auto",
        help="opencv alone, or a faster way for plain PNGs (default: auto)",
    )
    how.add_argument(
        "--fresh", action="store_true", help="start over where there is unfinished work"
    )
    how.add_argument(
        "--write-rows",
        choices=("auto", "mmap", "pwrite"),
        default="auto",
        help="how rows are written (default: auto, as the filesystem allows)",
    )
    how.add_argument("--quiet", action="store_true", help="print nothing but errors")


def _options(arguments: argparse.Namespace) -> Options:
    names, patterns = arguments.mask[0::2], arguments.mask[1::2]
    if len(names) != len(patterns):
        raise UsageError(f"--mask {' '.join(arguments.mask)}: names and patterns go in pairs")
    return Options(
        directories=tuple(arguments.directory),
        prefix=arguments.prefix,
        images=arguments.images,
        image_size=tuple(arguments.image_size),
        masks=tuple(zip(names, patterns, strict=True)),
        metadata=arguments.metadata,
        strip_regions=arguments.strip_regions,
        start=arguments.start,
        end=arguments.end,
        workers=_login_node_workers() if arguments.workers is None else arguments.workers,
        on_error=arguments.on_error,
        max_failures=arguments.max_failures,
        max_pixels=arguments.max_pixels,
        decoder=arguments.decoder,
        fresh=arguments.fresh,
        write_rows=arguments.write_rows,
    )


def _login_node_workers() -> int | None:
    """Be a good guest on a cluster's login node, where no number of workers was asked for."""
    if not cpus.is_login_node():
        return None
    workers = min(cpus.LOGIN_NODE_WORKERS, cpus.usable())
    os.nice(_NICENESS)
    _log.warning(
        "this is a SLURM login node: %d workers, niced by %d (--workers N overrides)",
        workers,
        _NICENESS,
    )
    return workers


class _Bar:
    """A bar of samples, on a terminal."""

    def __init__(self) -> None:
        self._bar: tqdm[NoReturn] | None = None

    def __call__(self, done: int, samples: int) -> None:
        if self._bar is None:
            # Now, for the workers are under way, and could not be forked beside its thread.
            from tqdm import tqdm

            self._bar = tqdm(total=samples, initial=done, unit="sample")
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


class _Lines:
    """A plain line now and then and at the end, in a log."""

    def __init__(self) -> None:
        self._begun = self._last = time.monotonic()
        self._resumed: int | None = None

    def __call__(self, done: int, samples: int) -> None:
        now = time.monotonic()
        if self._resumed is None:
            self._resumed = done
        if done == samples or now - self._last >= _LOG_SECONDS:
            self._last = now
            rate = (done - self._resumed) / max(now - self._begun, 1e-9)
            _say(f"{done} of {samples} samples, {rate:.1f} samples/s")

    def close(self) -> None:
        pass


def _compress(options: Options, quiet: bool) -> Report:
    if quiet:
        return compress(options)
    with closing(_Bar() if sys.stderr.isatty() else _Lines()) as progress:
        return compress(options, progress)


def _line(file: Written) -> str:
    return f"{file.path}  {file.shape}  {file.dtype}  {file.bytes:,} bytes"


def _say(line: str) -> None:
    print(f"{_NAME}: {line}", file=sys.stderr)


class _SayLogged(logging.Handler):
    """What the package has to tell on the way comes through `logging`."""

    def emit(self, record: logging.LogRecord) -> None:
        _say(record.getMessage())
