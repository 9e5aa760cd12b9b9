"""Any sequence of runs, kills, stalls and changes, against a model of what must stand there.

The suite tries a few sequences, always the same; ``make states`` tries many, at random.
"""

from __future__ import annotations

import io
import os
import pickle
import re
import signal
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import psutil
import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from numpy.typing import NDArray

from limbo_compress import InputError, Options, Partition, compress, load, status
from tests.jobs import files, outputs, run_command, wait_until, write_tiny_campaign
from tests.programs.interrupted import Deed, Moment
from tests.running import MAX_SECONDS, Running, has_hosts, on_host

# How many sequences `make states` tries.
SEQUENCES = int(os.environ.get("STATES", "0"))
SAMPLES = 5
# The sample of which one version is bad.
DAMAGED = 3
PARTITIONS = 2

Outputs = dict[str, bytes]

# What may be asked for under one prefix. All of these write the same files.
JOBS: dict[str, dict[str, Any]] = {
    "plain": {},
    "larger": {"image_size": (12, 9)},
    "stripped": {"strip_regions": True},
    "shorter": {"start": 1},
}


@dataclass(frozen=True)
class Ask:
    """What a run is asked for: a job, and what makes no difference to its outputs."""

    job: str
    skip: bool = True
    fresh: bool = False
    partition: int | None = None

    def options(self, data: Path, prefix: str) -> Options:
        """What the public API is to be asked for, but for its partition."""
        fields: dict[str, Any] = {"images": True, "metadata": True, "masks": (("m", "^48"),)}
        fields |= {"image_size": (8, 6), "workers": 1, "on_error": "skip" if self.skip else "stop"}
        return Options((str(data),), prefix, **fields | JOBS[self.job])

    def arguments(self, data: Path) -> list[str]:
        options = self.options(data, "out")
        flags = ["--prefix", "out", "--images", "--metadata", "--mask", "m", "^48", "--wait", "0"]
        flags += ["--workers", "1", "--on-error", options.on_error]
        flags += ["--image-size", *map(str, options.image_size)]
        flags += ["--start", str(options.start)] if options.start else []
        flags += ["--strip-regions"] if options.strip_regions else []
        flags += ["--fresh"] if self.fresh else []
        if self.partition is not None:
            flags += ["--partition", f"{self.partition}/{PARTITIONS}"]
        return [*flags, "--", str(data)]

    def samples(self) -> range:
        """The numbers of its samples in the campaign."""
        samples = range(SAMPLES)[JOBS[self.job].get("start", 0) :]
        if self.partition is None:
            return samples
        rows = Partition(self.partition, PARTITIONS).rows(len(samples))
        return samples[rows.start : rows.stop]


@dataclass(frozen=True)
class Interruption:
    """See `tests.programs.interrupted`."""

    moment: Moment
    count: int
    deed: Deed

    def words(self) -> list[str]:
        return [self.moment, str(self.count), self.deed]


class Run(Running):
    """The real command, which may be interrupted."""

    def __init__(
        self, folder: Path, arguments: list[str], interruption: Interruption | None, host: str
    ) -> None:
        self._marker = Path(tempfile.mkdtemp(dir=folder.parent)) / "interrupted"
        program = ["limbo_compress"]
        if interruption is not None:
            program = ["tests.programs.interrupted", str(self._marker), *interruption.words()]
        super().__init__(folder, [*on_host(host), sys.executable, "-m", *program, *arguments])

    def wait_for_stop(self) -> int | None:
        """Wait until all its processes have ended, but for those that are stopped.

        Returns the exit code; None if the coordinator is stopped.
        """
        wait_until(self._is_still, "the end of a run, or its stop", MAX_SECONDS)
        assert "Traceback" not in self.stderr, self.stderr
        return self.process.returncode

    def _is_still(self) -> bool:
        # The coordinator first: only it starts others.
        if self.is_running() and self.states().get(self.process.pid) != psutil.STATUS_STOPPED:
            return False
        return set(self.states().values()) <= {psutil.STATUS_STOPPED}

    @property
    def was_interrupted(self) -> bool:
        return self._marker.exists()


@dataclass
class Sleeper:
    """A run that is stopped, or the stopped worker of a coordinator that was killed.

    Attributes
    ----------
    codes : set of int
        How it may end, if it holds its lock.
    lock : Path or None
        The file of its lock, while it holds one.
    is_late : bool
        Whether another run has been at work meanwhile.
    """

    run: Run
    ask: Ask
    codes: set[int | None]
    lock: Path | None
    is_elsewhere: bool
    is_late: bool = False


class Testbed:
    """A tiny campaign whose files have two versions, and outputs of undisturbed runs."""

    __test__ = False

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        write_tiny_campaign(self.data, SAMPLES)
        images, texts = sorted(self.data.rglob("*.png")), sorted(self.data.rglob("*.json"))
        other, text = images[0].read_bytes(), texts[2].read_bytes()
        self.damaged = images[DAMAGED]
        picture = self.damaged.read_bytes()
        self._versions = (
            (images[1], (images[1].read_bytes(), other)),
            (texts[2], (text, text.replace(b'"synthetic"', b'"replaced"', 1))),
            (self.damaged, (picture, picture[: len(picture) // 2])),
        )
        self._state = [0] * len(self._versions)
        self._expected: dict[tuple[object, ...], Outputs] = {}

    def replace(self, number: int) -> None:
        """Replace one of the files by its other version."""
        self._state[number] = 1 - self._state[number]
        path, versions = self._versions[number]
        draft = path.with_suffix(".draft")
        draft.write_bytes(versions[self._state[number]])
        draft.replace(path)

    def reset(self) -> None:
        """Put the first version of each file back."""
        for number, version in enumerate(self._state):
            if version:
                self.replace(number)

    def is_bad(self, ask: Ask) -> bool:
        """Whether a bad sample stops such a run."""
        return bool(self._state[2]) and not ask.skip and DAMAGED in ask.samples()

    def expected(self, ask: Ask) -> Outputs:
        """Return what an undisturbed run gives that no bad sample stops."""
        key = (*self._state, ask.job)
        if key not in self._expected:
            with tempfile.TemporaryDirectory(dir=self.folder) as folder:
                compress(Ask(ask.job).options(self.data, f"{folder}/out"))
                self._expected[key] = outputs(Path(folder))
        return self._expected[key]


asks = st.builds(
    Ask,
    # More often than not the same job, so that work is resumed.
    job=st.sampled_from(["plain", "plain", "plain", *JOBS]),
    skip=st.booleans(),
    fresh=st.sampled_from([False, False, True]),
)
# Over what another job published, and whatever is unfinished.
replacing = st.builds(Ask, job=st.sampled_from(list(JOBS)), fresh=st.just(True))
partitions = st.builds(
    Ask,
    job=st.sampled_from(["plain", "plain", "shorter"]),
    skip=st.booleans(),
    partition=st.sampled_from(range(PARTITIONS)),
)
# About as many changes as there are.
at_work = st.one_of(
    st.tuples(st.just("coordinator"), st.sampled_from(range(1, 56))),
    st.tuples(st.just("worker"), st.sampled_from(range(1, 22))),
)
publishing = st.tuples(st.just("final"), st.sampled_from(range(1, 9)))
fatal = st.sampled_from(["kill", "kill coordinator", "kill group", "terminate"])


class States(RuleBasedStateMachine):
    """What may be at the final names and in the work folder, whatever happens.

    No rule depends on what the last ones came to, or Hypothesis could not repeat a sequence. One
    that makes no sense does nothing.
    """

    testbed: ClassVar[Testbed]

    def __init__(self) -> None:
        super().__init__()
        self.testbed.reset()
        self._place = tempfile.TemporaryDirectory(dir=self.testbed.folder)
        self._folder = Path(self._place.name) / "outputs"
        self._folder.mkdir()
        # Exactly what is at the final names; None since a run died that may have published.
        self._stands: Outputs | None = {}
        # What stands there is one of these, or some of its files.
        self._may_stand: list[Outputs] = [{}]
        # The jobs of which there may be unfinished work.
        self._work: set[str] = set()
        self._sleepers: list[Sleeper] = []
        self._log: list[str] = []

    @rule(ask=asks | partitions)
    def run(self, ask: Ask) -> None:
        self._do(ask)

    @rule(ask=asks | partitions, moment=at_work, deed=fatal)
    def interrupt(self, ask: Ask, moment: tuple[Moment, int], deed: Deed) -> None:
        self._do(ask, Interruption(*moment, deed))

    @rule(ask=replacing, moment=publishing, deed=fatal)
    def interrupt_publication(self, ask: Ask, moment: tuple[Moment, int], deed: Deed) -> None:
        self._do(ask, Interruption(*moment, deed))

    @rule(ask=asks, moment=at_work | publishing, is_elsewhere=st.booleans())
    def stop(self, ask: Ask, moment: tuple[Moment, int], is_elsewhere: bool) -> None:
        self._do(ask, Interruption(*moment, "stop group"), is_elsewhere and has_hosts())

    @rule(ask=asks, count=st.sampled_from(range(1, 22)))
    def stop_worker_and_kill_coordinator(self, ask: Ask, count: int) -> None:
        self._do(ask, Interruption("worker", count, "orphan"))

    @rule(deed=st.sampled_from(["wake", "wake", "take over", "kill"]), ask=asks)
    def end_a_stop(self, deed: str, ask: Ask) -> None:
        for sleeper in self._sleepers[:1]:
            if deed == "take over":
                self._take_over(sleeper, ask)
            else:
                self._sleepers.remove(sleeper)
                (self._wake if deed == "wake" else self._kill)(sleeper)

    @rule(number=st.sampled_from(range(3)))
    def replace_sample(self, number: int) -> None:
        if not self._sleepers:  # else their outputs would be of neither campaign
            self.testbed.replace(number)

    @rule()
    def look(self) -> None:
        """Ask for the status, and load what is there."""
        self._check_status()
        self._check_load()

    @invariant()
    def only_outputs_of_one_job_stand_there(self) -> None:
        found = outputs(self._folder)
        assert any(found.items() <= whole.items() for whole in self._may_stand), list(found)

    def teardown(self) -> None:
        """The plain command finishes whatever was left, and leaves nothing behind."""
        for sleeper in self._sleepers:
            self._kill(sleeper)
        self._sleepers.clear()
        if sys.exception() is None:
            last = Ask(min(self._work, default="plain"))
            if self._do(last) == 2:
                self._do(replace(last, fresh=True))
            assert self._stands == self.testbed.expected(last)
        else:  # Hypothesis may fail to repeat it, and then says nothing of it
            print(*self._log, repr(sys.exception()), sep="\n")
        self._place.cleanup()

    def _do(
        self, ask: Ask, interruption: Interruption | None = None, is_elsewhere: bool = False
    ) -> int | None:
        """Start a run, wait until it ends or is stopped, and check how. Return its exit code."""
        self._beat()
        if is_elsewhere:  # which cannot tell that a process here is dead
            self._age_dead_locks()
        is_blocked, codes = self._is_blocked(), self._codes(ask)
        before, locks = files(self._folder), self._locks()
        if not is_blocked:
            for sleeper in self._sleepers:
                sleeper.is_late = True
        host = "elsewhere" if is_elsewhere else ""
        run = Run(self._folder, ask.arguments(self.testbed.data), interruption, host)
        code = run.wait_for_stop()
        self._log.append(f"{ask} {interruption} on {host or 'this host'}: {code} {run.stderr!r}")
        if run.states():
            lock = None if code is not None else next(iter(self._locks() - locks), None)
            self._sleepers.append(Sleeper(run, ask, codes, lock, is_elsewhere))
        if run.states() or (code == -signal.SIGKILL and run.was_interrupted):
            self._note_cut_short(ask, can_work=not is_blocked and codes != {2})
        elif code == 128 + signal.SIGTERM and run.was_interrupted:
            assert "stopped by SIGTERM" in run.stderr
            self._check_unchanged()
            self._work.add(ask.job)
        else:
            assert code in codes, (code, codes, run.stderr)
            self._check_end(ask, code, run.stderr)
            if is_blocked:
                assert files(self._folder) == before
        return code

    def _codes(self, ask: Ask) -> set[int | None]:
        """How a run may end that is left alone."""
        if self._is_blocked():
            return {1}
        end = int(self.testbed.is_bad(ask))
        if ask.fresh or self._work <= {ask.job}:
            return {end}
        is_sure = ask.job not in self._work and status(self._folder / "out").done > 0
        return {2} if is_sure else {2, end}

    def _is_blocked(self) -> bool:
        return any(sleeper.lock is not None for sleeper in self._sleepers)

    def _locks(self) -> set[Path]:
        return set(self._folder.glob(".out.partial/lock/*"))

    def _beat(self) -> None:
        """Keep what is stopped elsewhere alive, however long this takes."""
        for sleeper in self._sleepers:
            if sleeper.lock is not None and sleeper.is_elsewhere:
                os.utime(sleeper.lock)

    def _age_dead_locks(self) -> None:
        held = {sleeper.lock for sleeper in self._sleepers}
        partitions = self._folder.glob(".out.partial/partition-*/*")
        for lock in (self._locks() | {*partitions}) - held:
            os.utime(lock, (0, 0))

    def _note_cut_short(self, ask: Ask, can_work: bool) -> None:
        if not can_work:
            self._check_unchanged()
            return
        self._work.add(ask.job)
        if ask.partition is None and not self.testbed.is_bad(ask):
            self._stands = None
            self._may_stand.append(self.testbed.expected(ask))

    def _check_end(self, ask: Ask, code: int | None, stderr: str) -> None:
        """Check what a run left that ended by itself, and what it said."""
        if code == 0 and ask.partition is None:
            self._check_published(ask)
            return
        self._check_unchanged()
        if code == 2:
            assert "unfinished work of another job" in stderr
            self._work.discard(ask.job)
        elif self._is_blocked():
            assert re.search("another run (is|may be) at work on this prefix", stderr)
        else:
            self._work = {ask.job}
            if code == 1:
                assert self.testbed.damaged.name in stderr
            else:
                assert status(self._folder / "out").done >= len(ask.samples())

    def _check_published(self, ask: Ask) -> None:
        self._stands = self.testbed.expected(ask)
        assert outputs(self._folder) == self._stands
        self._may_stand = [self._stands]
        self._work.clear()
        if not self._sleepers:
            names = {f"out-{name}" for name in self._stands}
            assert set(os.listdir(self._folder)) == {".out.state", *names}

    def _check_unchanged(self) -> None:
        assert self._stands is None or outputs(self._folder) == self._stands

    def _check_status(self) -> None:
        before = files(self._folder)
        done = run_command(self._folder, "--status", "--prefix", "out")
        assert (done.returncode, done.stderr) == (0, "")
        assert files(self._folder) == before
        if self._stands is not None and not self._work and not self._sleepers:
            assert "there is no unfinished work" in done.stdout

    def _check_load(self) -> None:
        found = outputs(self._folder)
        prefix = self._folder / "out"
        if found.keys() <= {"failures.jsonl", "warnings.jsonl"}:
            with pytest.raises(InputError):
                load(prefix)
            return
        dataset = load(prefix)
        (expected, *_) = (o for o in self._may_stand if found.items() <= o.items())
        assert len(dataset) == len(array_of(expected["images.npy"]))
        if "images.npy" in found:
            np.testing.assert_array_equal(dataset.images, array_of(expected["images.npy"]))
        if "masks-m.npy" in found:
            np.testing.assert_array_equal(dataset.masks["m"], array_of(expected["masks-m.npy"]))
        if dataset.metadata is not None:
            assert list(dataset.metadata) == pickle.loads(expected["metadata.pickle"])

    def _wake(self, sleeper: Sleeper) -> None:
        """Wake a run, which goes on if it may, and else does no harm."""
        before = outputs(self._folder)
        has_ended = sleeper.run.wait_for_stop() is not None
        sleeper.run.send(signal.SIGCONT)
        code = sleeper.run.wait_for_stop()
        self._log.append(f"woken: {sleeper.ask}: {code} {sleeper.run.stderr!r}")
        assert not sleeper.run.states()
        if has_ended:
            assert outputs(self._folder) == before
            return
        assert code in (sleeper.codes if sleeper.lock else {0, 1, 2}), (code, sleeper.run.stderr)
        # It may have published before it was stopped, and another one after it.
        if code == 0 and not (sleeper.is_late and outputs(self._folder) == before):
            self._check_published(sleeper.ask)
        elif code != 0:
            self._check_unchanged()
            self._work.add(sleeper.ask.job)

    def _take_over(self, sleeper: Sleeper, ask: Ask) -> None:
        """Let a run on another host look as if it had been silent for long."""
        if sleeper.lock is not None and sleeper.is_elsewhere:
            os.utime(sleeper.lock, (0, 0))
            sleeper.lock = None
            self._do(ask)

    def _kill(self, sleeper: Sleeper) -> None:
        sleeper.run.send(signal.SIGKILL)
        sleeper.run.wait_for_stop()
        if sleeper.lock is not None and sleeper.is_elsewhere:
            os.utime(sleeper.lock, (0, 0))


def array_of(content: bytes) -> NDArray[Any]:
    array: NDArray[Any] = np.load(io.BytesIO(content))
    return array


def test_whatever_happens_outputs_are_those_of_one_job(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    States.testbed = Testbed(tmp_path_factory.mktemp("states"))
    run_state_machine_as_test(
        States,
        settings=settings(
            max_examples=SEQUENCES or 15,
            stateful_step_count=12,
            derandomize=not SEQUENCES,
            # The shortest failing sequence takes minutes to find.
            phases=list(Phase) if SEQUENCES else [Phase.generate],
            print_blob=True,
            report_multiple_bugs=False,
        ),
    )
