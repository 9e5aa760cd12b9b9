"""What the benchmark compares with the command. Each runs in its own process and environment.

``python contenders.py NAME DATA OUT WORKERS [END]`` processes the first END samples below DATA. The
tools call this project's own conversion, so that only the tools differ; `pool` is what a user would
write by hand with the reference's arithmetic. Functions import what they need, because no
environment has everything.
"""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import pickle
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

NOT_INSTALLED = 3  # exit code
SIZE = (224, 224)
_MAX_BYTES = 1 << 30


def _image_path(path: str, metadata: dict[str, Any]) -> str:
    return os.path.join(os.path.dirname(path), metadata["image"]["filename"])


def by_hand(path: str) -> tuple[Any, dict[str, Any]]:
    """Convert a sample as the reference does, with Pillow, imagecat and scikit-image."""
    import numpy as np
    from imagecat.color import srgb_to_linear
    from PIL import Image
    from skimage.transform import resize

    metadata = json.loads(Path(path).read_bytes())
    with Image.open(_image_path(path, metadata)) as image:
        pixels = np.array(image, dtype=np.float16)[..., :3]
    light = srgb_to_linear(pixels / np.float16(255)).astype(np.float32)
    return resize(light, SIZE[::-1], order=3, anti_aliasing=True).astype(np.float16), metadata


def pool(paths: Sequence[str], out: Path, workers: int) -> None:
    """Use multiprocessing.Pool, as written by hand."""
    import numpy as np

    with multiprocessing.Pool(workers) as processes:
        images, metadata = zip(*processes.imap(by_hand, paths), strict=True)
    np.save(out / "images.npy", np.stack(images))
    with open(out / "metadata.pickle", "wb") as stream:
        pickle.dump(list(metadata), stream)


@cache
def _prepare() -> None:
    """Prepare a process like the command's own workers: allocator, no garbage collection."""
    from limbo_compress.run.worker import initialize

    initialize(_images_only())
    gc.disable()


@cache
def _images_only() -> Any:
    from limbo_compress import Options

    return Options((".",), images=True, image_size=SIZE)


def convert(path: str) -> dict[str, bytes]:
    """Convert a sample with this project's functions, on behalf of the tools."""
    import numpy as np
    import orjson

    from limbo_compress.imaging import image

    _prepare()
    metadata = orjson.loads(Path(path).read_bytes())
    image_path = _image_path(path, metadata)
    row = np.empty((*SIZE[::-1], 3), np.float16)
    image.convert(Path(image_path).read_bytes(), image_path, _images_only(), row)
    return {"image": row.tobytes(), "metadata": orjson.dumps(metadata)}


def _convert_column(row: dict[str, str]) -> dict[str, bytes]:
    return convert(row["path"])


def datasets(paths: Sequence[str], out: Path, workers: int) -> None:
    """Write Arrow files with Hugging Face datasets."""
    from datasets import Dataset, disable_progress_bars

    disable_progress_bars()
    rows = Dataset.from_list([{"path": path} for path in paths])
    # It warns about more processes than rows.
    processes = min(workers, len(paths))
    done = rows.map(_convert_column, num_proc=processes, remove_columns=["path"])
    done.save_to_disk(out / "dataset", num_proc=processes)


def litdata(paths: Sequence[str], out: Path, workers: int) -> None:
    """Write chunks with litdata."""
    # By default, it caches chunks in folders that all its jobs share.
    os.environ["DATA_OPTIMIZER_CACHE_FOLDER"] = str(out / "cache")
    os.environ["DATA_OPTIMIZER_DATA_CACHE_FOLDER"] = str(out / "data-cache")
    from litdata import optimize

    optimize(
        convert,
        list(paths),
        output_dir=str(out / "chunks"),
        num_workers=workers,
        chunk_bytes="64MB",
        verbose=False,
    )


def stub_missing_torchvision() -> None:
    """Let `streaming` load where torchvision does not, as with a torch without CUDA.

    Only its classes that read images need torchvision; the writer, which is timed, does not.
    """
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError):
        vision, tensor = "torchvision.datasets", "torchvision.transforms.functional"
        for name in ("torchvision", vision, "torchvision.transforms", tensor):
            sys.modules[name] = ModuleType(name)
            sys.modules[name].__spec__ = ModuleSpec(name, None)
        vars(sys.modules[vision])["VisionDataset"] = object
        vars(sys.modules[tensor])["to_tensor"] = None


def _write_mds(task: tuple[str, Sequence[str]]) -> None:
    stub_missing_torchvision()
    from streaming import MDSWriter

    folder, paths = task
    with MDSWriter(out=folder, columns={"image": "bytes", "metadata": "bytes"}) as writer:
        for path in paths:
            writer.write(convert(path))


def streaming(paths: Sequence[str], out: Path, workers: int) -> None:
    """Write MDS shards with MosaicML streaming, in one process and folder per worker."""
    share = -(-len(paths) // workers)
    tasks = [
        (str(out / f"{first:08d}"), paths[first : first + share])
        for first in range(0, len(paths), share)
    ]
    with multiprocessing.Pool(workers) as processes:
        processes.map(_write_mds, tasks, chunksize=1)


class Laps:
    """CPU time by stage."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()

    def time(self, name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function, and add its CPU time to the stage `name`."""
        before = time.process_time()
        result = function(*arguments)
        self.seconds[name] += time.process_time() - before  # type: ignore[assignment]
        return result

    def print_json(self, samples: int) -> None:
        """Print milliseconds per sample as JSON, which `bench.py` reads."""
        print(json.dumps({name: 1000 * lap / samples for name, lap in self.seconds.items()}))


def stages(paths: Sequence[str], out: Path, workers: int) -> None:
    """Time each of the command's stages, with [fast] if this environment has it."""
    import numpy as np

    from limbo_compress.formats.pickling import fragment
    from limbo_compress.imaging import color, decode
    from limbo_compress.samples.metadata_json import parse
    from limbo_compress.samples.reader import read_file

    _prepare()
    rows = np.lib.format.open_memmap(
        out / "rows.npy", "w+", np.dtype(np.float16), (len(paths), *SIZE[::-1], 3)
    )
    laps = Laps()
    for row, path in zip(rows, paths, strict=True):
        text = laps.time("read", read_file, path, _MAX_BYTES).data
        sample = laps.time("parse", parse, text, path)
        image_path = _image_path(path, sample)
        data = laps.time("read", read_file, image_path, _MAX_BYTES).data
        pixels = laps.time("decode", decode.decode, data, image_path)
        light = color.linear_light(decode.read_header(data, image_path).gray)
        # This includes color and rounding, which the compiled code does in the same pass.
        laps.time("resample", color.fill_row, pixels, light, row)
        laps.time("pickle", fragment, sample, path)
    laps.print_json(len(paths))


def floor_decode_parse(paths: Sequence[str], out: Path, workers: int) -> None:
    """Time only OpenCV's decoder and orjson, in one thread."""
    import cv2
    import numpy as np
    import orjson

    cv2.setNumThreads(1)
    _prepare()
    laps = Laps()
    for path in paths:
        sample = laps.time("parse", orjson.loads, Path(path).read_bytes())
        data = np.fromfile(_image_path(path, sample), np.uint8)
        laps.time("decode", cv2.imdecode, data, cv2.IMREAD_COLOR)
    laps.print_json(len(paths))


def _deflated(data: bytes, path: str) -> bytes:
    """Return the contents of a PNG's IDAT chunks, or nothing for a JPEG."""
    from limbo_compress.imaging import png

    chunks = png.find_chunks(data, path) if data.startswith(png.SIGNATURE) else []
    return b"".join(data[start:stop] for kind, start, stop in chunks if kind == b"IDAT")


def floor_inflate_parse(paths: Sequence[str], out: Path, workers: int) -> None:
    """Time only zlib and orjson. A JPEG counts as nothing, so that this remains a lower bound."""
    import orjson

    _prepare()
    laps = Laps()
    for path in paths:
        sample = laps.time("parse", orjson.loads, Path(path).read_bytes())
        image_path = _image_path(path, sample)
        deflated = _deflated(Path(image_path).read_bytes(), image_path)
        if deflated:
            laps.time("inflate", zlib.decompress, deflated)
    laps.print_json(len(paths))


def _skip_shard(task: Any) -> Any:
    from limbo_compress.formats.index import Entry
    from limbo_compress.formats.shard_record import ShardRecord, write_shard_record

    for pending in task.copies:
        pending.copy()
    pickled = b"Na"  # append None to the list
    entries = (Entry(len(pickled), zlib.crc32(pickled), ("synthetic", "48G")),) * len(task.paths)
    part = ShardRecord(task.rows.start, task.rows.stop, task.job.run, entries)
    write_shard_record(task.job.folder, part, pickled * len(entries))
    return part


def coordinator(paths: Sequence[str], out: Path, workers: int) -> None:
    """Time the coordinator, with workers that do almost nothing. Imports are not counted."""
    from unittest.mock import patch

    from limbo_compress import Options, compress

    module = sys.modules["limbo_compress.coordinator"]
    folder = os.path.commonpath(paths)
    options = Options((folder,), prefix=str(out / "out"), metadata=True, workers=workers)
    before, begun = time.process_time(), time.perf_counter()
    with patch.object(module, "compress_shard", _skip_shard):
        samples = compress(options).samples
    seconds = time.perf_counter() - begun
    used = 1000 * (time.process_time() - before) / samples
    print(json.dumps({"samples": samples, "cpu_ms": used, "rate": samples / seconds}))


CONTENDERS: dict[str, Callable[[Sequence[str], Path, int], None]] = {
    "pool": pool,
    "datasets": datasets,
    "litdata": litdata,
    "streaming": streaming,
    "stages": stages,
    "stages-fast": stages,
    "coordinator": coordinator,
    "floor-decode-parse": floor_decode_parse,
    "floor-inflate-parse": floor_inflate_parse,
}


def main(name: str, data: str, out: str, workers: str, end: str = "") -> int:
    """Run a contender. A missing library has an exit code of its own."""
    paths = sorted(str(path) for path in Path(data).absolute().rglob("*.json"))
    try:
        CONTENDERS[name](paths[: int(end) if end else None], Path(out), int(workers))
    except ModuleNotFoundError as error:
        print(error, file=sys.stderr)
        return NOT_INSTALLED
    return 0


if __name__ == "__main__":
    # Other modules in this folder must not shadow those of the environment.
    sys.path.pop(0)
    sys.exit(main(*sys.argv[1:]))
