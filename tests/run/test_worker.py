from __future__ import annotations

import os
from pathlib import Path

import pytest

from limbo_compress.errors import OutputError
from limbo_compress.output.lock import Lock
from limbo_compress.plan import plan
from limbo_compress.run.executor import Ending
from limbo_compress.run.worker import ShardTask, compress_shard
from tests.jobs import job


def test_a_run_that_lost_the_folder_leaves_no_part(campaign: Path, tmp_path: Path) -> None:
    late = plan(job(campaign, tmp_path), rows=1)
    task = ShardTask(late, 0, (str(min(campaign.rglob("*.json"))),))
    with Lock(late.root, "another run"):
        before = os.listdir(late.root)
        with pytest.raises(OutputError, match="another run took over this prefix"):
            list(compress_shard(task))
        with pytest.raises(OutputError, match="another run took over this prefix"):
            task.give_up(Ending("was killed by SIGSEGV"))
        assert os.listdir(late.root) == before
