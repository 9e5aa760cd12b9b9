"""When bad samples are too many: more than allowed, or too many in a row to be the data's fault."""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

from ..errors import SampleError
from ..formats.shard_record import SampleIssue, ShardRecord
from ..options import Options

__all__ = ["FailureLimit"]

_log = logging.getLogger("limbo_compress")

# Real campaigns have a few bad samples here and there. A fault of the machine that cannot be told
# from bad data, such as a decoder that fails on every file, concerns all samples from then on.
_MAX_IN_A_ROW = 19


class FailureLimit:
    """Stops a job that has too many bad samples.

    Parameters
    ----------
    options : Options
    samples : int
        Number of samples of the job.
    missing : sequence of range
        The rows that this run does, disjoint and in order. In a row means one after the other
        among these.
    """

    def __init__(self, options: Options, samples: int, missing: Sequence[range]) -> None:
        self._options = options
        self._samples = samples
        self._failures: list[SampleIssue] = []
        self._starts = [rows.start for rows in missing]
        self._offsets = list(accumulate(map(len, missing), initial=0))
        self._failed: set[int] = set()

    def check(self, record: ShardRecord) -> None:
        """Count the bad samples of a record.

        Raises
        ------
        SampleError
            If they are too many now. Unless it speaks of one sample, the others are logged.
        """
        self._failures += record.failures
        self._failed |= {self._position(failure.row) for failure in record.failures}
        limit = min(self._options.failure_limit(self._samples), self._samples - 1)
        if len(self._failures) > limit:
            self._stop()
        if self._options.max_failures is not None:
            return
        for failure in record.failures:
            if self._in_a_row(failure.row) > _MAX_IN_A_ROW:
                raise SampleError(
                    f"one of {_MAX_IN_A_ROW + 1} bad samples in a row: {failure.reason}",
                    failure.path,
                    "look at the machine first; if the data are bad, `max_failures` allows as many"
                    " as it says",
                )

    def _stop(self) -> None:
        if self._options.on_error == "stop":
            *others, last = self._failures
            for failure in others:
                _log.error("%s", failure)
            raise SampleError(last.reason, last.path, "`on_error` skip leaves bad samples out")
        for failure in self._failures:
            _log.error("%s", failure)
        found = f"{len(self._failures)} of {self._samples} samples are bad"
        if self._options.max_failures is not None:
            found += f"; `max_failures` is {self._options.max_failures}"
        raise SampleError(found)

    def _position(self, row: int) -> int:
        """Position of a row among those that this run does."""
        index = bisect_right(self._starts, row) - 1
        return self._offsets[index] + row - self._starts[index]

    def _in_a_row(self, row: int) -> int:
        """How many bad samples are in a row around this one."""
        low = high = self._position(row)
        while low - 1 in self._failed:
            low -= 1
        while high + 1 in self._failed:
            high += 1
        return high - low + 1
