"""Let each file call of a small job go wrong, one after the other: ``make enumerate``.

In each case one call of the C library on a file of the outputs goes wrong:

| kind | what happens |
| --- | --- |
| ``EIO``, ``ENOSPC``, ``EINTR``, ``ESTALE`` | the call fails |
| ``late-EIO``, ``lost-reply`` | the call is done, but reported to fail, in two ways |
| ``kill``, ``kill-all`` | the process or the whole run is killed before the call |
| ``term`` | the coordinator gets SIGTERM |
| ``stall``, ``stall-one`` | the run or the process stops, until another run took over and ended |
| ``stall-mid`` | the run stops, until another one that takes over is at work |

After each case: do the files at the final names belong to one job, to the byte? Does the exit code
tell the truth? Have all processes ended, without a traceback? Does the same command then write the
right bytes, and leave nothing else?

A folder that is as another case left it, but for random names, is not repaired once more.

The coordinator and the worker count their own calls, so that a case is the same call each time::

    python -m tests.programs.enumerate --only over:kill:coordinator:171

`test_enumerate.py` tries a fixed part of all cases.
"""

from __future__ import annotations

import argparse
import errno
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

import psutil

from benchmarks.campaign import Campaign, write_campaign
from tests import failing
from tests.jobs import wait_until
from tests.running import MAX_SECONDS, Running, has_hosts, on_host

SAMPLES = 4
COMMAND = (sys.executable, "-P", "-m", "limbo_compress", "--prefix", "out", "--workers", "1")
# Rows of more than the 64 KiB that shards share as a unit, so that rows are mapped, too.
FLAGS = ("--images", "--metadata", "--mask", "m", "^48", "--image-size", "160", "128")

# Calls that change what is on the disk. A kill before any other is one before the next of these.
_CHANGES = "chmod|create|link|mkdir|rename|reserve|rmdir|truncate|unlink|write"
# At which calls each kind of fault happens.
_KINDS = {
    "kill": _CHANGES,
    "kill-all": _CHANGES,
    "EIO": ".*",
    "ENOSPC": "create|fsync|link|mkdir|rename|reserve|truncate|write",
    "EINTR": "create|fsync|lock|open|open-to-write|reserve|write",
    "ESTALE": f"{_CHANGES}|fsync|list|open|open-to-write|stat",
    "late-EIO": _CHANGES,
    "lost-reply": "create|link|mkdir|rename|rmdir|unlink",
    "term": f"{_CHANGES}|fsync|lock",
    "stall": "(?!stat).*",
    "stall-mid": f"{_CHANGES}|fsync|lock",
    "stall-one": _CHANGES,
}
_KILLS = ("kill", "kill-all")
_STALLS = ("stall", "stall-mid", "stall-one")
_ACTIONS = {
    "kill": "kill",
    "kill-all": "kill-all",
    "term": "term",
    "stall": "stop-all",
    "stall-mid": "stop-all",
    "stall-one": "stop",
    "late-EIO": f"lose {errno.EIO}",
}
# What a server says to a request that is repeated because its reply was lost.
_REPEATED = {
    **dict.fromkeys(("rename", "rmdir", "unlink"), errno.ENOENT),
    **dict.fromkeys(("create", "link", "mkdir"), errno.EEXIST),
}
_PUBLICATION = ("recover", "publish")
_MOVES = ("link", "rename", "unlink")
_HIDDEN = re.compile(r"(^|/)\.[^/]")
_RANDOM = ((re.compile(r"[0-9a-f]{16}"), "RUN"), (re.compile(r"\.[0-9a-f]{6,}\."), ".ID."))

_RUN, _TIME = re.compile(rb"[0-9a-f]{16}|\.[0-9a-f]{6,}(?=\.)"), re.compile(rb"\d{9,}(\.\d+)?")

Tree = dict[str, bytes]


@dataclass(frozen=True)
class Call:
    """A file call of a run: whose, how far the run was, which function, on what."""

    role: str
    phase: str
    name: str
    path: str

    def __str__(self) -> str:
        return f"{self.role}, {self.phase}: {self.name} {self.path}"


@dataclass(frozen=True)
class Case:
    """What goes wrong in a scenario, at which call of which role."""

    scenario: str
    kind: str
    role: str
    number: int
    call: Call = field(compare=False)

    def __str__(self) -> str:
        return f"{self.scenario}:{self.kind}:{self.role}:{self.number}"

    @property
    def action(self) -> str:
        """What `failing.c` is to do."""
        if self.kind == "lost-reply":
            return f"lose {_REPEATED[self.call.name]}"
        return _ACTIONS.get(self.kind) or f"fail {getattr(errno, self.kind)}"


@dataclass(frozen=True)
class Outcome:
    """What a case came to: whether it happened, what was wrong, what was left of a stalled run."""

    case: Case
    happened: bool
    problems: tuple[str, ...]
    left: tuple[str, ...]


class Run(Running):
    """The real command, and what was wrong with how it ran."""

    def __init__(
        self, folder: Path, arguments: Sequence[object], env: dict[str, str], host: str = ""
    ) -> None:
        super().__init__(folder, [*on_host(host), *COMMAND, *FLAGS, *arguments], env)
        self.problems: list[str] = []
        self._is_over = False

    def wait(self) -> int:
        """Wait for the end. Note if it never comes, what is left then, and a traceback."""
        if self._is_over:
            return self.process.returncode
        self._is_over = True
        try:
            self.process.wait(MAX_SECONDS)
        except subprocess.TimeoutExpired:
            self.problems.append("it hangs")
            self.send(signal.SIGKILL)
            self.process.wait()
        try:
            wait_until(lambda: not self.states(), "all processes to end", 20)
        except AssertionError:
            self.problems.append("processes are left")
            self.send(signal.SIGKILL)
        if "Traceback" in self.stderr:
            self.problems.append("a traceback")
        return self.process.returncode

    def wait_for_stop(self, env: dict[str, str], kind: str) -> bool:
        """Wait until a process has met its fault and is stopped, or all are; False if none is."""

        def is_stopped() -> bool:
            states, caller = self.states(), failing.happened(env)
            who = [caller] if kind == "stall-one" else list(states)
            return caller != 0 and all(states.get(pid) == psutil.STATUS_STOPPED for pid in who)

        try:
            wait_until(lambda: not self.is_running() or is_stopped(), "a stop", MAX_SECONDS)
        except AssertionError:
            self.problems.append("it is not stopped")
        return self.is_running()

    def wait_until_at_work(self, env: dict[str, str]) -> None:
        """Wait until it holds the lock, has met its fault, or has ended."""

        def is_at_work() -> bool:
            is_met = failing.happened(env) or locks(self.folder)
            return not self.is_running() or bool(is_met)

        wait_until(is_at_work, "the lock", MAX_SECONDS)

    def wake(self) -> None:
        self.send(signal.SIGCONT)


@dataclass(frozen=True)
class Scenario:
    """A run that meets a fault.

    Parameters
    ----------
    prepare : callable
        Fills a folder before the run, and returns the older outputs. Each case gets a copy.
    flags : tuple of str
        Arguments besides `FLAGS`.
    follow : tuple of str, optional
        Those of the command that repairs everything, if others.
    samples : str
        Which campaign.
    publishes : bool
        Whether the run publishes its outputs.
    has_other : bool
        Whether the same command runs at the same time, undisturbed.
    """

    prepare: Callable[[Bed, Path], Tree]
    flags: tuple[str, ...] = ()
    follow: tuple[str, ...] | None = None
    samples: str = "new"
    publishes: bool = True
    has_other: bool = False


@dataclass(frozen=True)
class Prepared:
    """A scenario, with what is the same in all of its cases.

    Attributes
    ----------
    scenario : Scenario
    template : Path
        The folder before the run.
    older, new, published : dict of str to bytes
        The outputs of the older job, of this one, and those that are there if the run exits 0.
    names : set of str
        All that is in the folder at the end.
    calls : list of Call
        What an undisturbed run calls, in order.
    """

    scenario: Scenario
    template: Path
    older: Tree
    new: Tree
    published: Tree
    names: set[str]
    calls: list[Call]


class Bed:
    """Campaigns, the library that injects faults, and a folder for each scenario and case.

    Campaigns and counters are in `files`, outputs in `folder`.
    """

    def __init__(self, files: Path, folder: Path) -> None:
        self._files = files
        self._folder = folder
        self._library = failing.build(files)
        for seed, name in enumerate(("new", "old", "other")):
            small = Campaign(SAMPLES, photographs=SAMPLES, size=(32, 24), instances=1, seed=seed)
            write_campaign(files / name, small)
        shutil.copytree(files / "new", files / "bad")
        for name, row in (("old", 1), ("bad", 2)):  # samples that are left out
            sorted((files / name).rglob("*.json"))[row].write_text("{")
        self._prepared: dict[str, Prepared] = {}
        self.repaired: dict[str, tuple[str, ...]] = {}
        old = self.folder()
        assert self.start(old, ("--on-error", "skip"), "old").wait() == 0
        self._old = old

    def prepare(self, name: str) -> Prepared:
        """Set a scenario up, and run it undisturbed."""
        if name not in self._prepared:
            scenario = SCENARIOS[name]
            template = self.folder()
            older = scenario.prepare(self, template)
            folder = self.folder(template)
            calls = self.calls(folder, scenario)
            follow = self.follow(folder, scenario)
            assert follow.wait() == 0, follow.stderr
            new, names = visible(folder), all_names(folder)
            assert not any(map(_HIDDEN.search, names - {".out.state"})), names
            shutil.rmtree(folder)
            published = new if scenario.publishes else older
            both = {file for file in new if new[file] == older.get(file)}
            assert all(new[file].startswith(b"->") for file in both), "the samples are too alike"
            self._prepared[name] = Prepared(scenario, template, older, new, published, names, calls)
        return self._prepared[name]

    def folder(self, template: Path | None = None) -> Path:
        """Create a folder for outputs, a copy of another one or an empty one."""
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        if template:
            shutil.copytree(template, folder, symlinks=True, dirs_exist_ok=True)
        return folder

    def old_outputs(self, folder: Path) -> Tree:
        """Put the outputs of an older job of other samples into a folder."""
        shutil.copytree(self._old, folder, dirs_exist_ok=True)
        return visible(folder)

    def watch(self, folder: Path, **fault: object) -> dict[str, str]:
        """Return an environment in which calls on outputs count, and one of them meets a fault."""
        files = Path(tempfile.mkdtemp(dir=self._files))
        return failing.watch(self._library, files, f"*{folder}*", **fault)

    def start(
        self,
        folder: Path,
        flags: tuple[str, ...],
        samples: str,
        env: dict[str, str] | None = None,
        host: str = "",
    ) -> Run:
        arguments = ("--wait", "1", *flags, "--", self._files / samples)
        return Run(folder, arguments, env or {}, host)

    def follow(self, folder: Path, scenario: Scenario) -> Run:
        """Start the command that repairs everything."""
        flags = scenario.flags if scenario.follow is None else scenario.follow
        return self.start(folder, flags, scenario.samples)

    def calls(self, folder: Path, scenario: Scenario) -> list[Call]:
        """Run a scenario undisturbed, and return its calls."""
        env = self.watch(folder)
        run = self.start(folder, scenario.flags, scenario.samples, env)
        assert run.wait() == 0, run.stderr
        return classified(failing.calls(env), folder)

    def kill_at(
        self, folder: Path, scenario: Scenario, choose: Callable[[list[Call]], int]
    ) -> None:
        """Run a scenario, and kill it at one of the calls of an undisturbed run."""
        copy = self.folder(folder)
        calls = self.calls(copy, scenario)
        shutil.rmtree(copy)
        at = choose(calls)
        role = calls[at].role
        number = [call.role for call in calls[: at + 1]].count(role)
        env = self.watch(folder, do="kill-all", role=role, at=number)
        run = self.start(folder, scenario.flags, scenario.samples, env)
        assert run.wait() == -signal.SIGKILL, run.stderr

    def attempt(self, case: Case) -> Outcome:
        """Try a case."""
        prepared = self.prepare(case.scenario)
        folder = self.folder(prepared.template)
        env = self.watch(folder, role=case.role, at=case.number, do=case.action)
        attempt = _Attempt(self, prepared, folder, case)
        happened = attempt.disturb(env)
        if happened:
            attempt.repair()
        shutil.rmtree(folder)
        shutil.rmtree(Path(env["FAULT_STATE"]).parent)
        return Outcome(case, happened, tuple(attempt.problems), tuple(attempt.left))


class _Attempt:
    """A case that is tried in a folder."""

    def __init__(self, bed: Bed, prepared: Prepared, folder: Path, case: Case) -> None:
        self._bed = bed
        self._prepared = prepared
        self._scenario = prepared.scenario
        self._folder = folder
        self._case = case
        self.problems: list[str] = []
        self.left: list[str] = []

    def disturb(self, env: dict[str, str]) -> bool:
        """Run the command with its fault, and check what there is then; False if it met none."""
        flags, samples = self._scenario.flags, self._scenario.samples
        run = self._bed.start(self._folder, flags, samples, env)
        if self._scenario.has_other:
            run.wait_until_at_work(env)
            other = self._bed.start(self._folder, flags, samples)
        if self._case.kind in _STALLS and run.wait_for_stop(env, self._case.kind):
            if self._scenario.has_other:
                self._end("the other run", other, (0, 1))
            self._take_over(run)
        elif self._scenario.has_other:
            self._end("the other run", other, (0, 1))
        run.wait()
        if not failing.happened(env):
            return False
        self._check_end(run)
        self._check_files("", is_complete=self._case.kind in _STALLS)
        return True

    def _take_over(self, run: Run) -> None:
        """Run the command as if on another host, where the run shows no sign of life."""
        long_ago = time.time() - 3600
        for lock in locks(self._folder):
            with suppress(FileNotFoundError):
                os.utime(lock, (long_ago, long_ago))
        flags, samples = self._scenario.flags, self._scenario.samples
        env = {}
        if self._case.kind == "stall-mid":
            env = self._bed.watch(
                self._folder, do="stop-all", role="coordinator", at=self._middle()
            )
        successor = self._bed.start(self._folder, flags, samples, env, host="other")
        if env and successor.wait_for_stop(env, self._case.kind):
            run.wake()
            run.wait()
            successor.wake()
        successor.wait()
        # The run that woke up may have waited a minute for its successor, and taken over in turn.
        is_lost = bool(env) and "another run took over" in successor.stderr
        code = 1 if is_lost else 0
        self._note("the successor: ", successor, (code,))
        if env and successor.process.returncode != code:
            self.problems.append(f"the successor's last calls: {failing.calls(env)[-8:]}")
        self._check_files("after the successor: ", is_complete=not is_lost)
        run.wake()

    def _middle(self) -> int:
        """At which call of a successor the run wakes up: another one for each class."""
        calls = [call.role for call in self._prepared.calls].count("coordinator")
        return calls * (20 + zlib.crc32(str(self._case.call).encode()) % 70) // 100

    def _check_end(self, run: Run) -> None:
        self._note("", run, self._codes())
        code, found = run.process.returncode, visible(self._folder)
        if code == 0 and found != self._prepared.published:
            self.problems.append("exit 0, but not all outputs are there")
        if code != 0 and self._is_over() and found == self._prepared.new:
            self.problems.append(f"exit {code}, though all is published")

    def _is_over(self) -> bool:
        """Whether it is too late for the fault to change exit 0: only the work folder is left."""
        kind, call = self._case.kind, self._case.call
        is_of_outputs = call.name == "fsync" or not _HIDDEN.search(call.path)
        return (
            call.phase == "end"
            and kind not in (*_KILLS, *_STALLS)
            and (kind == "term" or not is_of_outputs)
        )

    def _codes(self) -> tuple[int, ...]:
        kind, role = self._case.kind, self._case.role
        if kind == "kill-all" or (kind == "kill" and role == "coordinator"):
            return (-signal.SIGKILL,)
        if kind == "kill":
            return (0,)
        # Before there are handlers, SIGTERM ends the process at once.
        return (0, 128 + signal.SIGTERM, -signal.SIGTERM) if kind == "term" else (0, 1)

    def repair(self) -> None:
        """Run the command that repairs everything, and check that it does."""
        state = f"{self._case.scenario} {state_of(self._folder)}"
        if state not in self._bed.repaired:
            before = len(self.problems)
            self._repair()
            self._bed.repaired[state] = tuple(self.problems[before:])
        else:
            self.problems.extend(self._bed.repaired[state])

    def _repair(self) -> None:
        self._end("afterwards", self._bed.follow(self._folder, self._scenario), (0,))
        found = visible(self._folder)
        for file in sorted(found.keys() | self._prepared.new.keys()):
            if found.get(file) != self._prepared.new.get(file):
                self.problems.append(f"afterwards: {file} is {self._state(file, found)}")
        left = {kind_of(name) for name in all_names(self._folder) - self._prepared.names}
        if self._case.kind in _STALLS:
            self.left.extend(sorted(left))
        elif left:
            self.problems.append(f"afterwards: left are {', '.join(sorted(left))}")

    def _end(self, who: str, run: Run, codes: tuple[int, ...]) -> None:
        run.wait()
        self._note(f"{who}: ", run, codes)

    def _note(self, who: str, run: Run, codes: tuple[int, ...]) -> None:
        self.problems.extend(who + problem for problem in run.problems)
        code = run.process.returncode
        if code not in codes:
            line = run.stderr.splitlines()[-1:] or [""]
            said = kind_of(line[0].replace(str(self._folder), ""))
            self.problems.append(f"{who}exit {code}: {said}")
        elif code > 0 and not run.stderr:
            self.problems.append(f"{who}exit {code} without a message")

    def _check_files(self, when: str, is_complete: bool = False) -> None:
        """Check that all files at the final names belong to one job."""
        found = visible(self._folder)
        if is_complete and found != self._prepared.published:
            self.problems.append(f"{when}not all outputs are there")
        sets = (self._prepared.older, self._prepared.new)
        if not any(found.items() <= files.items() for files in sets):
            states = [f"{file} {self._state(file, found)}" for file in sorted(found)]
            self.problems.append(f"{when}{', '.join(states)}")

    def _state(self, file: str, found: Tree) -> str:
        if file not in found:
            return "missing"
        for files, state in ((self._prepared.new, "new"), (self._prepared.older, "old")):
            if found[file] == files.get(file):
                return state
        return "WRONG"


def locks(folder: Path) -> list[Path]:
    """The files of the locks of all runs."""
    paths = [*folder.glob(".out.partial/lock/*"), *folder.glob(".out.partial/partition-*/*")]
    return [path for path in paths if _RANDOM[0][0].fullmatch(path.name)]


def visible(folder: Path) -> Tree:
    """Read the files that are not hidden: the outputs."""
    return {
        name: _content(folder / name)
        for name in all_names(folder)
        if not _HIDDEN.search(name) and not (folder / name).is_dir()
    }


def _content(path: Path) -> bytes:
    return b"->" + os.readlink(path).encode() if path.is_symlink() else path.read_bytes()


def all_names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def state_of(folder: Path) -> str:
    """Return a digest of all names and contents, in which random names have numbers."""
    numbers: dict[bytes, bytes] = {}

    def number(match: re.Match[bytes]) -> bytes:
        return numbers.setdefault(match[0], b"RUN-%d" % len(numbers))

    digest = hashlib.sha256()
    for name in sorted(all_names(folder), key=lambda name: (kind_of(name), name)):
        path = folder / name
        is_lock = path.parent.name == "lock" or path.parent.name.startswith("partition-")
        is_file = path.is_symlink() or (path.is_file() and not is_lock)
        content = _content(path) if is_file else b""
        if _HIDDEN.search(name) and not name.endswith(".npy"):
            content = _TIME.sub(b"TIME", _RUN.sub(number, content))
        text = _TIME.sub(b"TIME", _RUN.sub(number, os.fsencode(name)))
        digest.update(b"%s %o %d " % (text, path.lstat().st_mode, len(content)) + content)
    return digest.hexdigest()


def kind_of(path: str) -> str:
    """Replace what differs between two runs in a path: random names and numbers."""
    for pattern, text in _RANDOM:
        path = pattern.sub(text, path)
    return re.sub(r"\d+", "N", path)


def classified(lines: Iterable[str], folder: Path) -> list[Call]:
    """Parse calls, and say how far the run was.

    The coordinator's phases are ``start``, until the first shard record is done; ``work``;
    ``publish``, from the first to the last change of a final name; and ``end``. What changes final
    names during the start is ``recover``.
    """
    calls = []
    for line in lines:
        letter, name, path = line.split(" ", 2)
        role = "coordinator" if letter == "c" else "worker"
        calls.append((role, name, path.replace(f"{folder}/", "").replace(str(folder), ".")))
    is_move = [role == "worker" and name == "rename" for role, name, _ in calls]
    first = is_move.index(True) if True in is_move else 0
    finals = [
        index
        for index, (_, name, path) in enumerate(calls)
        if name in _MOVES and not all(map(_HIDDEN.search, path.split(" -> ")))
    ]
    early, late = [at for at in finals if at < first], [at for at in finals if at >= first]

    def phase(at: int) -> str:
        if calls[at][0] == "worker":
            return "work"
        if at < first:
            return "recover" if early and early[0] <= at <= early[-1] else "start"
        if not late or at < late[0]:
            return "work"
        return "publish" if at <= late[-1] else "end"

    return [
        Call(role, phase(at), name, kind_of(path)) for at, (role, name, path) in enumerate(calls)
    ]


def cases_of(bed: Bed, scenario: str) -> Iterator[Case]:
    """All cases of a scenario, alone.

    Kills at every call that changes something. All else at each change while files at the final
    names are changed, and elsewhere at the first of its role, phase, function and kind of path.
    """
    numbers: Counter[str] = Counter()
    seen = set()
    for call in bed.prepare(scenario).calls:
        numbers[call.role] += 1
        is_chosen = call not in seen or (
            call.phase in _PUBLICATION and re.fullmatch(_CHANGES, call.name)
        )
        seen.add(call)
        for kind, names in _KINDS.items():
            is_possible = re.fullmatch(names, call.name) and (kind not in _STALLS or has_hosts())
            if is_possible and (is_chosen or kind == "kill"):
                yield Case(scenario, kind, call.role, numbers[call.role], call)


def _prepare_nothing(bed: Bed, folder: Path) -> Tree:
    return {}


def _prepare_old(bed: Bed, folder: Path) -> Tree:
    return bed.old_outputs(folder)


def _prepare_grown(bed: Bed, folder: Path) -> Tree:
    """Publish all samples but one, whose rows the next run copies."""
    assert bed.start(folder, ("--end", str(SAMPLES - 1)), "new").wait() == 0
    return visible(folder)


def _prepare_unfinished(bed: Bed, folder: Path, samples: str = "new") -> Tree:
    """Kill a run when its worker has done more than half of its calls."""

    def choose(calls: list[Call]) -> int:
        at = [index for index, call in enumerate(calls) if call.role == "worker"]
        return at[6 * len(at) // 10]

    older = bed.old_outputs(folder)
    bed.kill_at(folder, Scenario(_prepare_old, samples=samples), choose)
    return older


def _prepare_partitions(bed: Bed, folder: Path) -> Tree:
    older = bed.old_outputs(folder)
    for index in range(2):
        assert bed.start(folder, ("--partition", f"{index}/2"), "new").wait() == 0
    return older


def _prepare_links(bed: Bed, folder: Path) -> Tree:
    """Let two outputs be links to files in other folders."""
    bed.old_outputs(folder)
    for name, place in (("out-images.npy", "a/i.npy"), ("out-metadata.pickle", "b/m.pickle")):
        (folder / place).parent.mkdir()
        (folder / name).rename(folder / place)
        (folder / name).symlink_to(place)
    return visible(folder)


def _prepare_interrupted(bed: Bed, folder: Path, which: int = -1) -> Tree:
    """Kill a run before it gives a new file its final name."""

    def choose(calls: list[Call]) -> int:
        def is_placed(call: Call) -> bool:
            *_, target = call.path.split(" -> ")
            return call.name == "rename" and not _HIDDEN.search(target)

        return [index for index, call in enumerate(calls) if is_placed(call)][which]

    older = bed.old_outputs(folder)
    bed.kill_at(folder, Scenario(_prepare_old), choose)
    return older


SCENARIOS = {
    "plain": Scenario(_prepare_nothing),
    "over": Scenario(_prepare_old),
    "growing": Scenario(_prepare_grown),
    "resumed": Scenario(_prepare_unfinished),
    "partition": Scenario(_prepare_old, ("--partition", "0/2"), (), publishes=False),
    "join": Scenario(_prepare_partitions),
    "two": Scenario(_prepare_old, has_other=True),
    "fresh": Scenario(partial(_prepare_unfinished, samples="other"), ("--fresh",)),
    "skip": Scenario(_prepare_old, ("--on-error", "skip"), samples="bad"),
    "linked": Scenario(_prepare_links),
    "interrupted": Scenario(_prepare_interrupted),
    "set-aside": Scenario(partial(_prepare_interrupted, which=0)),
}


# Scenarios that begin in like folders.
_FAMILIES = (
    ("plain", "over", "skip", "linked"),
    ("growing",),
    ("resumed", "fresh", "join"),
    ("interrupted", "set-aside"),
    ("partition",),
    ("two",),
)


def all_cases(bed: Bed, scenarios: Sequence[str]) -> Iterator[Case]:
    """All cases of some scenarios.

    Kills are in each of them. Where final names are not changed, a fault at a call of the same
    class is in the first scenario of its family only.
    """
    seen = set()
    for name in scenarios:
        family = next(family for family in _FAMILIES if name in family)
        for case in cases_of(bed, name):
            key = (family, case.kind, case.call)
            is_everywhere = case.kind == "kill" or case.call.phase in _PUBLICATION
            if is_everywhere or key not in seen:
                yield case
            seen.add(key)


def choose(cases: Iterable[Case], share: int) -> list[Case]:
    """Choose one of about `share` classes, by their checksums, and the first call of each.

    While final names are changed, four times as many.
    """
    chosen: dict[str, Case] = {}
    for case in cases:
        name = f"{case.scenario}:{case.kind} {case.call}"
        divisor = -(-share // 4) if case.call.phase in _PUBLICATION else share
        if zlib.crc32(name.encode()) % divisor == 0:
            chosen.setdefault(name, case)
    return list(chosen.values())


def summary(outcomes: Sequence[Outcome]) -> str:
    """What happened, as a table, and what failed.

    In the table, failed and tried cases of each kind and scenario.
    """
    kinds = sorted({outcome.case.kind for outcome in outcomes})
    scenarios = [name for name in SCENARIOS if any(o.case.scenario == name for o in outcomes)]
    lines = [_row("", *scenarios, "classes", "tried", "held", "failed", "left", "not met")]
    lines.append(_row(*["---"] * (len(scenarios) + 7)))
    for kind in [*kinds, "all"]:
        row = [outcome for outcome in outcomes if kind in (outcome.case.kind, "all")]
        cells = [count([o for o in row if o.case.scenario == name]) for name in scenarios]
        lines.append(_row(kind, *(f"{c.failed}/{c.tried}" for c in cells), *count(row)))
    problems = Counter(problem for outcome in outcomes for problem in outcome.problems)
    lines += ["", *(f"{count:6} × {problem}" for problem, count in problems.most_common())]
    failed = [outcome for outcome in outcomes if outcome.problems]
    if failed:
        lines += ["", "Failed; to try one again: python -m tests.programs.enumerate --only CASE"]
    for outcome in failed:
        lines += [f"{outcome.case} ({outcome.case.call})", *(f"    {p}" for p in outcome.problems)]
    return "\n".join(lines)


class Counts(NamedTuple):
    """How many classes and cases were tried, and what they came to."""

    classes: int
    tried: int
    held: int
    failed: int
    left: int
    not_met: int


def count(outcomes: Sequence[Outcome]) -> Counts:
    tried = [outcome for outcome in outcomes if outcome.happened]
    classes = {(o.case.scenario, o.case.kind, o.case.call) for o in tried}
    failed = sum(bool(outcome.problems) for outcome in tried)
    left = sum(bool(outcome.left) for outcome in tried)
    held, not_met = len(tried) - failed, len(outcomes) - len(tried)
    return Counts(len(classes), len(tried), held, failed, left, not_met)


def _row(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def main() -> int:
    parser = argparse.ArgumentParser(description="Let each file call of a small job go wrong.")
    parser.add_argument("--folder", type=Path, help="where the outputs are written")
    parser.add_argument("--only", nargs="+", default=[], metavar="CASE", help="only these cases")
    parser.add_argument("--scenario", nargs="+", default=list(SCENARIOS), choices=SCENARIOS)
    parser.add_argument("--kind", nargs="+", default=[], help="only these kinds of faults")
    parser.add_argument("--share", type=int, default=1, help="only every N-th class, about")
    parser.add_argument("--count", action="store_true", help="only count the cases")
    parser.add_argument("--jobs", type=int, default=4, help="how many cases at once")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as files,
        tempfile.TemporaryDirectory(dir=options.folder) as folder,
    ):
        bed = Bed(Path(files).resolve(), Path(folder).resolve())
        names = [name for name in options.scenario if _is_wanted(name, options.only)]
        cases = list(all_cases(bed, names))
        if options.only:
            cases = [case for case in cases if str(case) in options.only]
        if options.kind:
            cases = [case for case in cases if case.kind in options.kind]
        if options.share > 1:
            cases = choose(cases, options.share)
        if options.count:
            print(summary([Outcome(case, True, (), ()) for case in cases]))
            return 0
        outcomes = list(_attempt_all(bed, cases, options.jobs))
    print(summary(outcomes))
    return int(any(outcome.problems for outcome in outcomes))


def _is_wanted(scenario: str, only: Sequence[str]) -> bool:
    return not only or any(case.startswith(f"{scenario}:") for case in only)


def _attempt_all(bed: Bed, cases: Sequence[Case], jobs: int) -> Iterator[Outcome]:
    start = time.monotonic()
    failed = 0
    with ThreadPoolExecutor(jobs) as pool:
        for number, outcome in enumerate(pool.map(bed.attempt, cases), 1):
            failed += bool(outcome.problems)
            for problem in outcome.problems:
                print(f"{outcome.case}: {problem}", file=sys.stderr, flush=True)
            if number % 50 == 0 or number == len(cases):
                minutes = (time.monotonic() - start) / 60
                text = f"{number} of {len(cases)} cases, {failed} failed, {minutes:.1f} minutes"
                text += f", {len(bed.repaired)} folders repaired"
                print(text, file=sys.stderr, flush=True)
            yield outcome


if __name__ == "__main__":
    sys.exit(main())
