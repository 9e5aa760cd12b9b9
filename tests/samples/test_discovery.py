from __future__ import annotations

import glob
import os
from pathlib import Path

import pytest

from limbo_compress.errors import InputError
from limbo_compress.samples.discovery import find_samples


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


def test_a_file_reached_twice_counts_once_by_its_path_without_links(tmp_path: Path) -> None:
    make(tmp_path, "z/1.json", "z/sub/2.json", "z/sub/3.json")
    (tmp_path / "a").symlink_to(tmp_path / "z")
    (tmp_path / "z" / "0.json").symlink_to(tmp_path / "z" / "sub" / "3.json")
    samples = find_samples([str(tmp_path), str(tmp_path / "z" / "sub")])
    assert list(samples.paths) == [
        str(tmp_path / name) for name in ("z/1.json", "z/sub/2.json", "z/sub/3.json")
    ]
    assert samples.repeated == 3
    assert find_samples([str(tmp_path / "z" / "sub")]).repeated == 0


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


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list every folder")
def test_a_folder_that_cannot_be_listed_is_an_error(tmp_path: Path) -> None:
    make(tmp_path, "a/1.json")
    (tmp_path / "a").chmod(0)
    with pytest.raises(InputError, match="cannot list"):
        find_samples([str(tmp_path)])
