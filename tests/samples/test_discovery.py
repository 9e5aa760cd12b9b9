from __future__ import annotations

import errno
import glob
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from limbo_compress.errors import InputError, MachineError
from limbo_compress.samples.discovery import find_samples
from tests.jobs import run


def make(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("{}")


def found(*folders: Path) -> list[str]:
    return list(find_samples(map(str, folders)).paths)


def test_samples_are_ordered_by_their_paths_as_strings(tmp_path: Path) -> None:
    make(tmp_path, "b/10.json", "b/9.json", "a/z.json", "a-1/x.json", "B.json", "a/sub/ä.json")
    make(tmp_path, "a/readme.txt", "a/x.JSON", ".hidden.json", "a/.git/x.json", "a/.x.json")
    expected = sorted(glob.glob(f"{tmp_path}/**/*.json", recursive=True))
    assert found(tmp_path) == expected
    assert found(tmp_path / "b", tmp_path / "a") == found(tmp_path / "a", tmp_path / "b")
    assert len(expected) == 6


def test_paths_are_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "a/x.json")
    monkeypatch.chdir(tmp_path)
    assert list(find_samples(["a/../a"]).paths) == [str(tmp_path / "a" / "x.json")]


def test_links_to_folders_are_followed(tmp_path: Path) -> None:
    make(tmp_path, "data/1.json", "outside/2.json")
    (tmp_path / "data" / "more").symlink_to(tmp_path / "outside")
    assert found(tmp_path / "data") == [
        str(tmp_path / "data/1.json"),
        str(tmp_path / "data/more/2.json"),
    ]


def test_a_folder_reached_twice_counts_once_by_its_path_without_links(tmp_path: Path) -> None:
    make(tmp_path, "z/1.json", "z/sub/2.json", "z/sub/3.json")
    (tmp_path / "a").symlink_to(tmp_path / "z")
    samples = find_samples([str(tmp_path), str(tmp_path / "z" / "sub")])
    assert list(samples.paths) == [
        str(tmp_path / name) for name in ("z/1.json", "z/sub/2.json", "z/sub/3.json")
    ]
    assert samples.repeated == 3
    assert find_samples([str(tmp_path / "z" / "sub")]).repeated == 0


def test_links_to_one_file_are_samples_of_their_own(tmp_path: Path) -> None:
    """Stores that keep each content once have them; the images next to them may differ."""
    make(tmp_path, "store/content.json", "data/1.json")
    (tmp_path / "data" / "2.json").symlink_to(tmp_path / "store" / "content.json")
    (tmp_path / "data" / "3.json").symlink_to(tmp_path / "store" / "content.json")
    (tmp_path / "data" / "4.json").symlink_to("1.json")
    samples = find_samples([str(tmp_path / "data"), str(tmp_path)])
    names = ("data/1.json", "data/2.json", "data/3.json", "data/4.json", "store/content.json")
    assert list(samples.paths) == [str(tmp_path / name) for name in names]


def test_the_callback_gets_the_number_of_samples_so_far(tmp_path: Path) -> None:
    make(tmp_path, "a/1.json", "b/2.json", "b/3.json")
    (tmp_path / "again").symlink_to(tmp_path / "b")
    counts: list[int] = []
    find_samples([str(tmp_path)], counts.append)
    assert counts == [1, 2, 3]


def test_circular_links_end(tmp_path: Path) -> None:
    make(tmp_path, "a/1.json", "a/b/2.json")
    (tmp_path / "a/b/up").symlink_to(tmp_path / "a")
    (tmp_path / "a/self").symlink_to(tmp_path / "a" / "self")
    samples = find_samples([str(tmp_path)])
    assert list(samples.paths) == [str(tmp_path / "a/1.json"), str(tmp_path / "a/b/2.json")]
    assert samples.repeated == 2


def test_a_folder_named_like_a_metadata_file_is_searched(tmp_path: Path) -> None:
    make(tmp_path, "a.json/b.json")
    assert found(tmp_path) == [str(tmp_path / "a.json/b.json")]


def test_a_broken_link_is_a_sample(tmp_path: Path) -> None:
    (tmp_path / "a.json").symlink_to(tmp_path / "gone")
    assert found(tmp_path) == [str(tmp_path / "a.json")]


def test_finding_no_sample_is_an_error_that_names_the_folders(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=str(tmp_path)):
        find_samples([str(tmp_path)])


PROGRAM = """
import os, sys
from limbo_compress.errors import LimboError
from limbo_compress.samples.discovery import find_samples
from tests.jobs import run
try:
    samples = find_samples(sys.argv[1:])
    print(*map(os.path.basename, samples.paths), samples.describe_unlisted(), sep="\\n")
except LimboError as error:
    print(type(error).__name__, error)
"""


def find_without_privileges(*folders: Path) -> list[str]:
    """Find samples in a process that is not allowed to list every folder, even if it is root."""
    command = [sys.executable, "-c", PROGRAM, *folders]
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root may list every folder, and setpriv (util-linux) is missing")
        command[:0] = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    return run(*command, check=True).stdout.splitlines()


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Path]:
    """A folder that cannot be listed, next to two samples."""
    make(tmp_path, "1.json", "closed/2.json", "open/3.json")
    (tmp_path / "closed").chmod(0)
    yield tmp_path / "closed"
    (tmp_path / "closed").chmod(0o700)


def test_folders_that_cannot_be_listed_are_skipped_and_counted(closed: Path) -> None:
    assert find_without_privileges(closed.parent) == [
        "1.json",
        "3.json",
        f"1 folder could not be listed (the first is {closed}: Permission denied)",
    ]


def test_links_into_a_closed_folder_are_counted(closed: Path) -> None:
    (closed.parent / "open" / "link").symlink_to(closed / "folder")
    *_, line = find_without_privileges(closed.parent)
    assert line.startswith("2 folders could not be listed")


def test_a_given_folder_that_cannot_be_listed_is_an_error(closed: Path) -> None:
    (line,) = find_without_privileges(closed.parent, closed)
    assert line == f"InputError {closed}: cannot list this folder: Permission denied"


def test_what_was_not_listed_is_said_where_no_sample_is_found(closed: Path) -> None:
    shutil.rmtree(closed.parent / "open")
    (closed.parent / "1.json").unlink()
    (line,) = find_without_privileges(closed.parent)
    assert "no sample" in line
    assert line.endswith(f"(the first is {closed}: Permission denied)")


def test_a_folder_that_the_machine_cannot_list_is_no_folder_to_skip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, "1.json", "a/2.json")
    scandir, calls = os.scandir, list[str]()

    def fail(folder: str) -> Any:
        if folder.endswith("a"):
            calls.append(folder)
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), folder)
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", fail)
    with pytest.raises(MachineError, match=rf"{tmp_path}/a: Stale file handle"):
        find_samples([str(tmp_path)])
    assert len(calls) == 4


def test_samples_below_repeated_folders_count_once_each(tmp_path: Path) -> None:
    make(tmp_path, "a/b/c/1.json", "a/b/2.json", "a/b-x/3.json", "a/4.json", "z/5.json")
    again = ["a/b", "a/b/c", "a/b-x"]
    assert find_samples([str(tmp_path), *(f"{tmp_path}/{name}" for name in again)]).repeated == 3
