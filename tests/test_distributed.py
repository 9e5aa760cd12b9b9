"""Several processes that train together, and training that is resumed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from limbo_compress import load

torch = pytest.importorskip("torch", reason="PyTorch is not installed: make torch")


from limbo_compress.torch import BlockSampler, prefetch  # noqa: E402

LONG = 300.0  # seconds that nothing takes, unless it has failed
ROWS = 50

# One of several ranks: it trains an epoch of some rows, or some batches of it, and says the rows
# that it has seen and its weights.
RANK = """
import json, os, sys
from itertools import islice
import numpy as np, torch
import torch.distributed
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler
from limbo_compress import load
from limbo_compress.torch import BlockSampler, prefetch

prefix, meeting, kind, *numbers, rows = sys.argv[1:]
ranks, rank, workers, batches = map(int, numbers)
rows = json.loads(rows)
torch.distributed.init_process_group("gloo", f"file://{meeting}", rank=rank, world_size=ranks)
samples = load(prefix).select(rows).torch(labels=np.array(rows))
if kind == "block":
    sampler = BlockSampler(samples, 8, ranks=ranks, rank=rank)
else:
    sampler = DistributedSampler(samples)
sampler.set_epoch(1)
network = DistributedDataParallel(torch.nn.Linear(3 * 6 * 8, 1))
optimizer = torch.optim.SGD(network.parameters(), lr=0.001)
loader = prefetch(DataLoader(samples, 5, sampler=sampler, num_workers=workers))
seen = []
for images, labels in islice(loader, batches):
    assert (images == labels[:, None, None, None]).all()
    seen += labels.int().tolist()
    optimizer.zero_grad()
    network(images.flatten(1)).square().mean().backward()
    optimizer.step()
total = sum(weights.sum().item() for weights in network.parameters())
print(json.dumps([seen, total]), flush=True)
# No rank leaves while another still talks to it. Threads of gloo that outlive the interpreter abort
# the process about once in a hundred times, so it is not taken down piece by piece.
torch.distributed.barrier()
del network, optimizer
torch.distributed.destroy_process_group()
os._exit(0)
"""

needs_gloo = pytest.mark.skipif(
    not torch.distributed.is_available(), reason="this PyTorch is built without torch.distributed"
)


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A data set, all values of which are the number of the row."""
    prefix = tmp_path_factory.mktemp("distributed") / "set"
    values = np.arange(ROWS, dtype=np.float16)[:, None, None, None]
    np.save(f"{prefix}-images.npy", np.broadcast_to(values, (ROWS, 6, 8, 3)))
    return str(prefix)


def train(
    prefix: str,
    meeting: Path,
    sampler: str,
    ranks: int,
    workers: int = 0,
    batches: int = ROWS,
    rows: Iterable[int] = range(ROWS),
) -> list[list[int]]:
    """Train with several ranks; return the rows that each has seen."""
    commands = [
        [sys.executable, "-c", RANK, prefix, str(meeting), sampler]
        + [str(number) for number in (ranks, rank, workers, batches)]
        + [json.dumps([*rows])]
        for rank in range(ranks)
    ]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE) for command in commands]
    try:
        outputs = [process.communicate(timeout=LONG)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.wait() for process in processes] == [0] * ranks
    seen, weights = zip(*map(json.loads, outputs), strict=True)
    assert len(set(weights)) == 1
    return list(seen)


@needs_gloo
@pytest.mark.parametrize(("sampler", "workers"), [("rows", 2), ("block", 0)])
def test_two_ranks_share_the_rows(prefix: str, tmp_path: Path, sampler: str, workers: int) -> None:
    first, second = train(prefix, tmp_path / "meeting", sampler, 2, workers)
    assert len(first) == len(second)
    assert sorted(first + second) == [*range(ROWS)]


@needs_gloo
@pytest.mark.parametrize("sampler", ["rows", "block"])
def test_another_number_of_ranks_trains_the_rest_of_an_epoch(
    prefix: str, tmp_path: Path, sampler: str
) -> None:
    seen = [*chain(*train(prefix, tmp_path / "two", sampler, 2, batches=2))]
    left = sorted({*range(ROWS)} - {*seen})
    assert len(left) == 30
    rest = [*chain(*train(prefix, tmp_path / "three", sampler, 3, rows=left))]
    assert sorted(seen + rest) == [*range(ROWS)]


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


@pytest.mark.filterwarnings("ignore")
def test_lightning_takes_the_order_of_each_epoch(prefix: str, tmp_path: Path) -> None:
    reason = "Lightning is not installed"
    lightning: Any = pytest.importorskip("pytorch_lightning", reason=reason)
    seen: list[list[float]] = []

    class Network(lightning.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(3 * 6 * 8, 1)

        def on_train_epoch_start(self) -> None:
            seen.append([])
            sampler.set_epoch(self.current_epoch)

        def training_step(self, batch: Any) -> Any:
            seen[-1].extend(rows_of(batch))
            return self.layer(batch[0].flatten(1)).square().mean()

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=1e-6)

    samples = load(prefix).torch(labels=np.arange(ROWS))
    sampler = BlockSampler(samples, 8)
    batches = torch.utils.data.DataLoader(samples, 5, sampler=sampler)
    quiet = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    trainer = lightning.Trainer(
        accelerator="cpu", max_epochs=2, default_root_dir=tmp_path, **dict.fromkeys(quiet, False)
    )
    trainer.fit(Network(), prefetch(batches))
    for epoch, rows in enumerate(seen):
        sampler.set_epoch(epoch)
        assert rows == [*sampler]
    assert len(seen) == 2
