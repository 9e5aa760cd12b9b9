"""How outputs were made, and samples that have moved."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from limbo_compress import UsageError, compress, export_dataset, load, provenance, summarize, verify
from tests.jobs import MASKS, Command, error_line, job, outputs, run

FROZEN = Path(__file__).parents[1] / "frozen"
PATH = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


@pytest.mark.uniform
@pytest.mark.parametrize("folder", ["data", "it's $HOME/a\n\tb", "\udcff é"])
def test_the_command_makes_the_same_again(
    campaign: Path, tmp_path: Path, inspect: Command, folder: str
) -> None:
    data = Path(shutil.copytree(campaign, tmp_path / folder))
    masks = {"all": ".", "it's": "^48|'x y'"}
    options = job(data, tmp_path, masks=masks, start=2, end=9, strip_regions=True)
    compress(options)
    before = outputs(tmp_path)
    done = inspect("out", "--provenance", "--quiet")
    assert (done.returncode, done.stderr) == (0, "")
    comment, line = done.stdout.splitlines()
    assert comment.startswith("# out: limbo-compress version ")
    for path in tmp_path.glob("out-*"):
        path.unlink()
    again = run(
        "bash",
        "-c",
        f"{line.replace('limbo-compress', 'limbo-compress --quiet', 1)}",
        cwd=tmp_path,
        env=PATH,
    )
    assert again.returncode == 0, again.stderr
    assert outputs(tmp_path) == before


@pytest.mark.uniform
def test_it_is_in_the_summary_the_gallery_and_coco(
    data: Path, tmp_path: Path, inspect: Command
) -> None:
    compress(job(data, tmp_path, masks=MASKS))
    (found,) = provenance(load(tmp_path / "out"))
    words = shlex.split(found.line)
    assert tuple(words) == found.command
    assert words[-2:] == ["--", str(data)]
    assert summarize(load(tmp_path / "out")).provenance == {found.prefix: found.line}
    assert "  made by limbo-compress --prefix out --images " in inspect("out").stdout
    (shown,) = json.loads(inspect("out", "--provenance", "--json").stdout)["provenance"]
    assert shown["made"]["masks"] == [list(pair) for pair in MASKS]
    export_dataset(load(tmp_path / "out"), "coco", tmp_path / "coco")
    annotations = tmp_path / "coco" / "annotations" / "instances_default.json"
    assert json.loads(annotations.read_text())["info"]["provenance"] == [found.line]
    if inspect("out", "--html", "gallery").returncode == 0:
        assert (
            "limbo-compress --prefix out"
            in (tmp_path / "gallery" / "data" / "summary.js").read_text()
        )


def test_older_outputs_do_not_say_it(inspect: Command) -> None:
    done = inspect(FROZEN / "0.1.0" / "out", "--provenance")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.endswith("the metadata do not say how they were made\n")


@pytest.mark.uniform
def test_samples_that_have_moved(data: Path, tmp_path: Path, inspect: Command) -> None:
    compress(job(data, tmp_path))
    (tmp_path / "new").mkdir()
    moved = data.rename(tmp_path / "new" / "place")
    done = inspect("out", "--verify", "all", "--root", f"{data}=new/place")
    assert done.returncode == 0, done.stdout
    assert "12 are the same" in done.stdout
    roots: tuple[Any, ...] = (
        (data, moved),
        {str(data): str(moved)},
        {f"{tmp_path}/x": "/y", str(data): str(moved)},
    )
    for root in roots:
        dataset = load(tmp_path / "out", root=root)
        assert dataset.paths[0].startswith(f"{moved}/")
        assert verify(dataset, 2).findings == ()
        assert provenance(dataset)[0].command[-1] == str(moved)
    assert inspect("out", "--verify", "3").returncode == 1


@pytest.mark.uniform
def test_a_root_without_samples_is_a_warning(prefix: Path, inspect: Command) -> None:
    done = inspect(prefix, "--provenance", "--root", "/no/such=/y")
    assert (done.returncode, done.stderr) == (
        0,
        "limbo-inspect: --root: no sample was below /no/such\n",
    )
    assert "it takes OLD=NEW" in error_line(inspect(prefix, "--root", "/x"), 2)
    with pytest.raises(UsageError, match="`root` takes a folder"):
        load(prefix, root=("/x",))  # type: ignore[arg-type]
