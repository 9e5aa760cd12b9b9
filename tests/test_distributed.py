"""Several processes that train together, and training that is resumed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from limbo_compress import load

torch = pytest.importorskip("torch", reason="PyTorch is not installed: make torch")


from limbo_compress.torch import BlockSampler, prefetch  # noqa: E402

LONG = 300.0  # seconds that nothing takes, unless it has failed
ROWS = 50

# A rank of two: it trains an epoch, and says the rows that it has seen and its weights.
RANK = """
import json, sys
import numpy as np, torch
import torch.distributed
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler
from limbo_compress import load
from limbo_compress.torch import BlockSampler, prefetch

prefix, meeting, rank, kind, workers = sys.argv[1:]
rank, workers = int(rank), int(workers)
torch.distributed.init_process_group("gloo", f"file://{meeting}", rank=rank, world_size=2)
samples = load(prefix).torch(labels=np.arange(50))
if kind == "block":
    sampler = BlockSampler(samples, 8, ranks=2, rank=rank)
else:
    sampler = DistributedSampler(samples)
sampler.set_epoch(1)
network = DistributedDataParallel(torch.nn.Linear(3 * 6 * 8, 1))
optimizer = torch.optim.SGD(network.parameters(), lr=0.001)
seen = []
for images, labels in prefetch(DataLoader(samples, 5, sampler=sampler, num_workers=workers)):
    assert (images == labels[:, None, None, None]).all()
    seen += labels.int().tolist()
    optimizer.zero_grad()
    network(images.flatten(1)).square().mean().backward()
    optimizer.step()
print(json.dumps([seen, sum(weights.sum().item() for weights in network.parameters())]))
torch.distributed.destroy_process_group()
"""


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A data set, all values of which are the number of the row."""
    prefix = tmp_path_factory.mktemp("distributed") / "set"
    values = np.arange(ROWS, dtype=np.float16)[:, None, None, None]
    np.save(f"{prefix}-images.npy", np.broadcast_to(values, (ROWS, 6, 8, 3)))
    return str(prefix)


@pytest.mark.skipif(
    not torch.distributed.is_available(), reason="this PyTorch is built without torch.distributed"
)
@pytest.mark.parametrize(("sampler", "workers"), [("rows", 2), ("block", 0)])
def test_two_ranks_share_the_rows(prefix: str, tmp_path: Path, sampler: str, workers: int) -> None:
    arguments = [prefix, str(tmp_path / "meeting")]
    commands = [
        [sys.executable, "-c", RANK, *arguments, str(rank), sampler, str(workers)]
        for rank in range(2)
    ]
    ranks = [subprocess.Popen(command, stdout=subprocess.PIPE) for command in commands]
    try:
        outputs = [rank.communicate(timeout=LONG)[0] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert [rank.wait() for rank in ranks] == [0, 0]
    (first, weights), (second, same_weights) = map(json.loads, outputs)
    assert len(first) == len(second)
    assert sorted(first + second) == [*range(ROWS)]
    assert weights == same_weights


def loader(prefix: str, workers: int, blocks: bool) -> Any:
    reason = "torchdata is not installed: make torch"
    stateful = pytest.importorskip("torchdata.stateful_dataloader", reason=reason)
    samples = load(prefix).torch(labels=np.arange(ROWS))
    order: Any = {"sampler": BlockSampler(samples, 8)} if blocks else {"shuffle": True}
    return stateful.StatefulDataLoader(samples, batch_size=4, num_workers=workers, **order)


def rows_of(batch: Any) -> list[float]:
    images, labels = batch
    assert torch.equal(images, labels[:, None, None, None].expand_as(images))
    return list(labels.tolist())


def with_states(loader: Any) -> Iterator[Any]:
    """As the documentation has it: the state that belongs to each batch."""
    for batch in loader:
        yield batch, loader.state_dict()


# Of torchdata 0.11 with PyTorch 2.13.
@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("blocks", [False, True])
@pytest.mark.parametrize("ahead", [False, True])
def test_an_epoch_is_resumed_where_it_was(
    prefix: str, workers: int, blocks: bool, ahead: bool
) -> None:
    torch.manual_seed(5)
    batches = with_states(loader(prefix, workers, blocks))
    before = []
    for batch, state in prefetch(batches) if ahead else batches:
        before += rows_of(batch)
        reached = state
        if len(before) == 20:
            break
    torch.manual_seed(6)
    resumed = loader(prefix, workers, blocks)
    resumed.load_state_dict(reached)
    after = [row for batch in (prefetch(resumed) if ahead else resumed) for row in rows_of(batch)]
    assert sorted(before + after) == [*range(ROWS)]
