"""Any changes to a campaign and its outputs: each command gives what one from scratch gives.

The suite tries a few sequences, always the same; ``make states`` tries many, at random.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from PIL import Image

from limbo_compress import LimboError, Options, compress
from tests.jobs import outputs, run_command, write_tiny_campaign
from tests.jpegs import noisy
from tests.programs.interrupted import Deed, Moment
from tests.test_states import SEQUENCES, Interruption, Run, at_work, fatal, publishing

SAMPLES = 8
PREFIX = "out"
FOLDERS = ("a", "b", "c/d")
JOBS: dict[str, dict[str, Any]] = {
    "plain": {},
    "larger": {"image_size": (12, 9)},
    "stripped": {"strip_regions": True},
    "other mask": {"masks": {"m": "."}},
    "from 1": {"start": 1},
    "up to 4": {"end": 4},
    "metadata": {"images": False, "masks": {}},
    "arrays": {"metadata": False},
}
# Jobs that leave other outputs of the prefix as they are, and how they are refused if these differ.
PARTS = ("arrays", "metadata")
REFUSALS = (
    "rows of existing outputs are not those of this job",
    "existing output cannot be read",
    "metadata belong to other arrays",
    "are others now",
)

numbers = st.integers(0, 1000)


def options(job: str, data: Path, prefix: Path) -> Options:
    fields: dict[str, Any] = {"images": True, "metadata": True, "masks": {"m": "^48"}}
    fields |= {"image_size": (8, 6), "workers": 1, "on_error": "skip"}
    return Options((str(data),), str(prefix), **fields | JOBS[job])


def arguments(asked: Options) -> list[str]:
    flags = ["--prefix", PREFIX, "--workers", "1", "--on-error", "skip"]
    flags += ["--metadata"] * asked.metadata + ["--images"] * asked.images
    flags += ["--image-size", *map(str, asked.image_size)]
    flags += [word for pair in asked.masks.items() for word in ("--mask", *pair)]
    flags += ["--strip-regions"] if asked.strip_regions else []
    for name in ("start", "end"):
        value = getattr(asked, name)
        flags += [f"--{name}", str(value)] if value is not None else []
    return [*flags, "--", *asked.directories]


class Pool:
    """Samples to take from: renders and a photograph, one with a warning, and one that is bad."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        samples = folder / "pool"
        write_tiny_campaign(samples, SAMPLES)
        damaged, photograph, warned, *_ = sorted(samples.rglob("*.png"))
        damaged.write_bytes(damaged.read_bytes()[:100])
        for path in (photograph, warned):
            metadata = path.with_suffix(".json")
            metadata.write_text(metadata.read_text().replace(".png", ".jpg"))
            Image.open(path).save(path.with_suffix(".jpg"))
            path.unlink()
        jpeg = warned.with_suffix(".jpg")
        jpeg.write_bytes(noisy(jpeg.read_bytes()))
        # The files of each sample.
        self.samples = [
            [path, *sorted(set(path.parent.glob(f"*{path.stem.split('_')[-1]}.*")) - {path})]
            for path in sorted(samples.rglob("*.json"))
        ]


class Growing(RuleBasedStateMachine):
    """A campaign and its outputs. A rule that makes no sense does nothing."""

    pool: ClassVar[Pool]

    def __init__(self) -> None:
        super().__init__()
        self._place = tempfile.TemporaryDirectory(dir=self.pool.folder)
        self._root = Path(self._place.name)
        self._folder = self._root / "outputs"
        self._data = self._root / "data"
        self._folder.mkdir()
        self._data.mkdir()
        self._log: list[str] = []
        # The outputs that were damaged since a job wrote them, as they were before.
        self._damaged: dict[str, set[bytes]] = {}
        for number in range(3):
            self._copy(number, self._data / "a")

    @initialize(job=st.sampled_from(["plain", "plain", *JOBS]))
    def begin(self, job: str) -> None:
        self._run(job)

    @rule(
        job=st.sampled_from(["plain", "plain", "plain", *JOBS]), fresh=st.sampled_from([0, 0, 0, 1])
    )
    def run(self, job: str, fresh: int) -> None:
        self._run(job, *["--fresh"] * fresh)

    @rule(workers=st.integers(1, 2))
    def grow(self, workers: int) -> None:
        self._run("plain", "--workers", workers)

    @rule(first=st.integers(0, 1))
    def grow_by_partitions(self, first: int) -> None:
        """The one that ends last publishes, unless all samples of the other one are bad."""
        command = arguments(options("plain", self._data, self._folder / PREFIX))
        done = run_command(self._folder, "--partition", f"{first}/2", *command)
        self._log.append(f"partition {first}: {done}")
        self._run("plain", "--partition", f"{1 - first}/2")

    @rule(job=st.sampled_from(["plain", *JOBS]), moment=at_work | publishing, deed=fatal)
    def interrupt(self, job: str, moment: tuple[Moment, int], deed: Deed) -> None:
        asked = options(job, self._data, self._folder / PREFIX)
        run = Run(self._folder, arguments(asked), Interruption(*moment, deed), "")
        code = run.wait_for_stop()
        self._log.append(f"interrupted {job} {moment} {deed}: {code} {run.stderr!r}")
        # These may be of this job, or still the damaged ones.
        for name, content in outputs(self._folder).items():
            if name in self._damaged:
                self._damaged[name].add(content)

    @rule(number=numbers, folder=st.sampled_from(FOLDERS))
    def add(self, number: int, folder: str) -> None:
        self._copy(number, self._data / folder)

    @rule(number=numbers)
    def remove(self, number: int) -> None:
        self._with_sample(number, lambda files: list(map(Path.unlink, files)))

    @rule(number=numbers, other=numbers)
    def change(self, number: int, other: int) -> None:
        """Replace the files of a sample by those of another one, under the same names."""

        def replace(files: list[Path]) -> None:
            names = {path.suffix: path for path in files}
            for source in self.pool.samples[other % len(self.pool.samples)]:
                if source.suffix in names and source.suffix != ".json":
                    draft = names[source.suffix].with_suffix(".draft")
                    shutil.copyfile(source, draft)
                    draft.replace(names[source.suffix])

        self._with_sample(number, replace)

    @rule(number=numbers)
    def edit(self, number: int) -> None:
        """Change a metadata file, but not its size."""

        def replace(files: list[Path]) -> None:
            text = files[0].read_bytes()
            old, new = (b'"48', b'"30') if b'"48' in text else (b'"30', b'"48')
            files[0].write_bytes(text.replace(old, new))

        self._with_sample(number, replace)

    @rule(number=numbers)
    def touch(self, number: int) -> None:
        self._with_sample(number, lambda files: list(map(Path.touch, files)))

    @rule(number=numbers)
    def rename_sample(self, number: int) -> None:
        def rename(files: list[Path]) -> None:
            files[0].rename(files[0].with_stem(f"{files[0].stem}x"))

        self._with_sample(number, rename)

    @rule(old=st.sampled_from(("a", "b", "c")), new=st.sampled_from(("a", "b", "e")))
    def rename_folder(self, old: str, new: str) -> None:
        if (self._data / old).exists() and not (self._data / new).exists():
            (self._data / old).rename(self._data / new)

    @rule()
    def move_campaign(self) -> None:
        self._data = self._data.rename(
            self._root / ("moved" if self._data.name == "data" else "data")
        )

    @rule(file=numbers, bit=st.integers(0, 1 << 30))
    def flip(self, file: int, bit: int) -> None:
        paths = sorted(self._folder.glob(f"{PREFIX}-*"))
        if paths:
            path = self._damage(paths[file % len(paths)])
            data = bytearray(path.read_bytes())
            bit %= 8 * len(data)
            data[bit // 8] ^= 1 << bit % 8
            path.write_bytes(data)

    @rule(how=st.sampled_from(["remove", "flip", "cut"]), bit=numbers)
    def harm_state(self, how: str, bit: int) -> None:
        path = self._folder / f".{PREFIX}.state"
        if path.exists():
            data = bytearray(path.read_bytes())
            data[bit % len(data)] ^= 1
            harmed = {"remove": b"", "flip": bytes(data), "cut": bytes(data[:-1])}[how]
            path.write_bytes(harmed) if harmed else path.unlink()

    @rule(file=numbers)
    def remove_output(self, file: int) -> None:
        paths = sorted(self._folder.glob(f"{PREFIX}-*"))
        if paths:
            self._damage(paths[file % len(paths)]).unlink()

    def teardown(self) -> None:
        if not self._log or "ERROR" not in self._log[-1]:
            self._run("plain")
        self._place.cleanup()

    def _damage(self, path: Path) -> Path:
        name = path.name.removeprefix(f"{PREFIX}-")
        self._damaged.setdefault(name, {path.read_bytes()})
        return path

    def _copy(self, number: int, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for path in self.pool.samples[number % len(self.pool.samples)]:
            shutil.copyfile(path, folder / path.name)

    def _with_sample(self, number: int, do: Callable[[list[Path]], object]) -> None:
        paths = sorted(self._data.rglob("*.json"))
        if paths:
            path = paths[number % len(paths)]
            digits = path.stem.removesuffix("x").split("_")[-1].rstrip("x")
            do([path, *sorted(set(path.parent.glob(f"*{digits}.*")) - {path})])

    def _run(self, job: str, *flags: object) -> None:
        """Run a job, and compare what it leaves with what one from scratch gives."""
        expected = self._expected(job)
        command = arguments(options(job, self._data, self._folder / PREFIX))
        done = run_command(self._folder, *command[:-2], *flags, *command[-2:])
        if done.returncode == 2 and "unfinished work of another job" in done.stderr:
            done = run_command(self._folder, "--fresh", *command)
        elif "--partition" in flags and (done.returncode or "have ended" in done.stdout):
            done = run_command(self._folder, *command)
        self._log.append(f"{job}, {flags}: {done}")
        assert "Traceback" not in done.stderr, self._log
        found = outputs(self._folder)
        if isinstance(expected, int):
            assert done.returncode == expected, self._log
            return
        if done.returncode:
            # Other outputs of the prefix stay, and are of other samples.
            said = [text for text in REFUSALS if text in done.stderr]
            assert said, self._log
            for path in self._folder.glob(f"{PREFIX}-*"):
                path.unlink()
            self._run(job, *flags)
            return
        is_up_to_date = "up to date" in done.stdout
        for name, content in expected.items():
            # The contents of rows are not looked at if nothing else has changed.
            is_kept = is_up_to_date and name in found and content in self._damaged.get(name, ())
            assert is_kept or found.get(name) == content, (name, self._log)
        stale = set() if job in PARTS else found.keys() - expected.keys()
        assert not stale, (stale, self._log)
        if not is_up_to_date:
            for name in expected:
                self._damaged.pop(name, None)

    def _expected(self, job: str) -> dict[str, bytes] | int:
        """What a run from scratch gives, or the exit code of the error that ends it."""
        with tempfile.TemporaryDirectory(dir=self._root) as folder:
            try:
                compress(options(job, self._data, Path(folder) / PREFIX))
            except LimboError as error:
                return error.exit_code
            return outputs(Path(folder))


def test_what_grows_is_what_one_run_gives(tmp_path_factory: pytest.TempPathFactory) -> None:
    Growing.pool = Pool(tmp_path_factory.mktemp("growing"))
    run_state_machine_as_test(
        Growing,
        settings=settings(
            max_examples=SEQUENCES or 5,
            stateful_step_count=14,
            derandomize=not SEQUENCES,
            phases=list(Phase) if SEQUENCES else [Phase.generate],
            print_blob=True,
            report_multiple_bugs=False,
        ),
    )
