"""What ``benchmarks.load`` times, each in a process of its own, in an environment of its own.

``python load_contenders.py NAME DATA [WORKERS EPOCHS]`` reads all rows in random order, as float32
tensors of shape (3, H, W) in batches of 64, through PyTorch's ``DataLoader``, and prints figures as
JSON. ``cold DATA NAME BATCHES`` reads batches in a cgroup that has less memory than the file.
Imports are inside the functions, because no environment has all of them.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

NOT_INSTALLED = 3  # the exit code
SIZE = (224, 224)
BATCH = 64
STEP = 0.02  # seconds in which a network works on a batch
COLD_MEMORY = 768 << 20


def pss(process: int) -> int:
    """Proportional set size of a process and its descendants, in bytes."""
    total = 0
    try:
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total = 1024 * int(line.split()[1])
        for children in Path(f"/proc/{process}/task").glob("*/children"):
            total += sum(pss(int(child)) for child in children.read_text().split())
    except OSError:  # it has ended
        pass
    return total


class Peak:
    """The largest PSS of this process and its workers while it is entered.

    Looking takes the kernel a while, so this happens in an epoch that is not timed.
    """

    def __enter__(self) -> Peak:
        self.bytes = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._thread.join()

    def _look(self) -> None:
        while True:
            self.bytes = max(self.bytes, pss(os.getpid()))
            if self._done.wait(0.25):
                return


def measure(epoch: Callable[[], Iterable[Any]], epochs: int, peaks_of: int) -> dict[str, Any]:
    """Time epochs, after others in which the memory is measured and pages are mapped."""
    rows, peaks, seconds = 0, [], []
    for _ in range(peaks_of):
        with Peak() as peak:
            rows = run(epoch)
        peaks.append(peak.bytes)
    for _ in range(epochs):
        begun = time.perf_counter()
        run(epoch)
        seconds.append(time.perf_counter() - begun)
    return {"rows": rows, "seconds": seconds, "pss": peaks}


def run(epoch: Callable[[], Iterable[Any]]) -> int:
    rows = 0
    for batch in epoch():
        images = batch[0] if isinstance(batch, list | tuple) else batch
        rows += len(images)
    return rows


def loader(dataset: Any, workers: int, **more: Any) -> Any:
    from torch.utils.data import DataLoader

    return DataLoader(dataset, batch_size=BATCH, shuffle=True, num_workers=workers, **more)


def ours(
    data: str, workers: int, ahead: bool = False, step: float = 0, **options: Any
) -> Callable[[], Iterable[Any]]:
    """`Dataset.torch` of this project, with the metadata of a row of each batch in use."""
    from limbo_compress import load

    dataset = load(data)
    batches = loader(dataset.torch(labels={"30B"}, **options), workers)
    if ahead:
        from limbo_compress.torch import prefetch

        batches = prefetch(batches)

    def epoch() -> Iterable[Any]:
        for number, batch in enumerate(batches):
            assert dataset.metadata is not None
            dataset.metadata[number]
            yield batch
            time.sleep(step)

    return epoch


def stored(data: str, workers: int) -> Callable[[], Iterable[Any]]:
    """The same, with the values and the order of the file."""
    import torch

    return ours(data, workers, dtype=torch.float16, memory_format=torch.channels_last)


class ByHand:
    """The class that the reference's tutorial has one write, without its augmentation."""

    def __init__(self, metadata: list[dict[str, Any]], images: Any) -> None:
        self.metadata = metadata
        self.images = images

    def __len__(self) -> int:
        return len(self.metadata)

    def __getitem__(self, row: int) -> tuple[Any, Any]:
        import numpy as np
        import torch

        categories = {annotation["category"] for annotation in self.metadata[row]["annotations"]}
        image = torch.from_numpy(self.images[row].astype(np.float32)).permute(2, 0, 1)
        return image, torch.tensor([float("30B" in categories)])


def tutorial(data: str, workers: int) -> Callable[[], Iterable[Any]]:
    """The reference's way: a list from pickle, and an array that a class indexes."""
    import numpy as np

    metadata = pickle.loads(Path(f"{data}-metadata.pickle").read_bytes())
    images = np.load(f"{data}-images.npy", mmap_mode="r")
    batches = loader(ByHand(metadata, images), workers)
    return lambda: batches


def _tensor(row: bytes) -> Any:
    import numpy as np
    import torch

    pixels = np.frombuffer(row, np.float16).reshape(*SIZE[::-1], 3)
    return torch.from_numpy(pixels.astype(np.float32).transpose(2, 0, 1).copy())


class Column:
    """Rows of a library's data set as tensors."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, row: int) -> Any:
        return _tensor(self.dataset[row]["image"])


def datasets(data: str, workers: int) -> Callable[[], Iterable[Any]]:
    """Hugging Face datasets, from its Arrow files."""
    from datasets import load_from_disk

    batches = loader(Column(load_from_disk(data).select_columns(["image"])), workers)
    return lambda: batches


def _litdata_tensor(row: dict[str, Any]) -> Any:
    return _tensor(row["image"])


def litdata(data: str, workers: int) -> Callable[[], Iterable[Any]]:
    """litdata, from its chunks, with its own loader."""
    from litdata import StreamingDataLoader, StreamingDataset

    rows = StreamingDataset(data, shuffle=True, transform=_litdata_tensor)
    batches = StreamingDataLoader(rows, batch_size=BATCH, num_workers=workers)
    return lambda: batches


def streaming(data: str, workers: int) -> Callable[[], Iterable[Any]]:
    """MosaicML streaming, from its MDS shards."""
    from benchmarks.contenders import stub_missing_torchvision

    stub_missing_torchvision()
    from streaming import Stream, StreamingDataset
    from torch.utils.data import DataLoader

    streams = [Stream(local=str(folder)) for folder in sorted(Path(data).iterdir())]
    rows = StreamingDataset(streams=streams, shuffle=True, batch_size=BATCH)
    batches = DataLoader(rows, batch_size=BATCH, num_workers=workers, collate_fn=_stack_images)
    return lambda: batches


def _stack_images(rows: list[dict[str, Any]]) -> Any:
    import torch

    return torch.stack([_tensor(row["image"]) for row in rows])


def _copies(data: str, planes: bool) -> Callable[[], Iterable[Any]]:
    import numpy as np

    images = np.load(f"{data}-images.npy", mmap_mode="r")

    def epoch() -> Iterable[Any]:
        order = np.random.default_rng().permutation(len(images))
        for start in range(0, len(images), BATCH):
            rows = np.sort(order[start : start + BATCH])
            if planes:
                batch = np.empty((len(rows), 3, *SIZE[::-1]), np.float32)
                batch[...] = images[rows].transpose(0, 3, 1, 2)
                yield batch
            else:
                yield images[rows]

    return epoch


def copy(data: str, workers: int) -> Callable[[], Iterable[Any]]:
    """Copying rows with numpy, as they are stored."""
    return _copies(data, planes=False)


def copy_planes(data: str, workers: int) -> Callable[[], Iterable[Any]]:
    """Copying rows with numpy to float32 of shape (3, H, W)."""
    return _copies(data, planes=True)


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def opening(data: str) -> dict[str, float]:
    """Time what this project does before training starts, and measure its memory."""
    import numpy as np

    before, begun = resident(), time.perf_counter()
    from limbo_compress import load

    dataset = load(data)
    opened = time.perf_counter()
    dataset.labels({"48G", "48X", "48Y"})
    labeled = time.perf_counter()
    memory = resident() - before
    metadata = dataset.metadata
    assert metadata is not None
    rows = np.random.default_rng(0).integers(len(dataset), size=200).tolist()
    metadata[rows[0]]
    looked = time.perf_counter()
    for row in rows:
        metadata[row]
    one = (time.perf_counter() - looked) / len(rows)
    listed = time.perf_counter()
    list(metadata)
    return {
        "rows": len(dataset),
        "open": opened - begun,
        "labels": labeled - opened,
        "bytes": memory,
        "one": one,
        "list": time.perf_counter() - listed,
    }


def opening_by_hand(data: str) -> dict[str, float]:
    """Time the same as the reference's tutorial does it."""
    import numpy as np

    before, begun = resident(), time.perf_counter()
    np.load(f"{data}-images.npy", mmap_mode="r")
    with open(f"{data}-metadata.pickle", "rb") as stream:
        metadata = pickle.load(stream)
    opened = time.perf_counter()
    wanted = {"48G", "48X", "48Y"}
    found = [wanted & {a["category"] for a in sample["annotations"]} for sample in metadata]
    np.array([[bool(categories)] for categories in found], np.float32)
    return {
        "rows": len(metadata),
        "open": opened - begun,
        "labels": time.perf_counter() - opened,
        "bytes": resident() - before,
        "list": opened - begun,
    }


def limit_memory() -> None:
    """Move this process to a cgroup that has less memory than the file; needs root."""
    root = Path("/sys/fs/cgroup")
    is_old = (root / "memory").is_dir()
    group = root / ("memory/limbo-bench" if is_old else "limbo-bench")
    group.mkdir(exist_ok=True)
    limit = "memory.limit_in_bytes" if is_old else "memory.max"
    (group / limit).write_text(str(COLD_MEMORY))
    (group / "cgroup.procs").write_text(str(os.getpid()))


def bytes_read() -> int:
    """Bytes that this process has had read from the device."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("read_bytes:"))


def cold(data: str, name: str, batches: str) -> dict[str, float]:
    """Read batches where the file is not in memory, and does not fit there."""
    import torch  # noqa: F401 - so that its files are not counted

    limit_memory()
    epoch = CONTENDERS[name](data, 0)
    for _ in islice(epoch(), 1):  # imports, and opens files
        pass
    with open(f"{data}-images.npy", "rb") as stream:
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    before, begun = bytes_read(), time.perf_counter()
    rows = BATCH * sum(1 for _ in islice(epoch(), int(batches)))
    seconds = time.perf_counter() - begun
    needed = rows * SIZE[0] * SIZE[1] * 3 * 2
    return {"rows": rows, "seconds": seconds, "amplification": (bytes_read() - before) / needed}


OPENING: dict[str, Callable[[str], dict[str, float]]] = {
    "open": opening,
    "open-by-hand": opening_by_hand,
}
CONTENDERS: dict[str, Callable[[str, int], Callable[[], Iterable[Any]]]] = {
    "ours": ours,
    "ahead": partial(ours, ahead=True),
    "stored": stored,
    "step": partial(ours, step=STEP),
    "step-ahead": partial(ours, ahead=True, step=STEP),
    "tutorial": tutorial,
    "datasets": datasets,
    "litdata": litdata,
    "streaming": streaming,
    "copy": copy,
    "copy-planes": copy_planes,
}


def main(name: str, data: str, workers: str = "0", epochs: str = "1") -> int:
    """Run one; a library that is missing is told by an exit code of its own."""
    try:
        if name == "cold":
            figures: dict[str, Any] = cold(data, workers, epochs)
        elif name in OPENING:
            figures = OPENING[name](data)
        else:
            # Of this project, three epochs show whether memory grows.
            peaks_of = 3 if name == "ours" else 1
            figures = measure(CONTENDERS[name](data, int(workers)), int(epochs), peaks_of)
    except ModuleNotFoundError as error:
        print(error, file=sys.stderr)
        return NOT_INSTALLED
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    # Instead of this folder, whose modules are not meant for these environments.
    sys.path[0] = str(Path(__file__).parents[1])
    sys.exit(main(*sys.argv[1:]))
