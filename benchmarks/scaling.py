"""What the coordinator costs with many workers: CPU per shard, and until all have started.

The workers do almost nothing, so a machine with few CPUs can have many. Of a real job, the
records of shards and their outputs come on top, which do not depend on the number of workers.
"""

import argparse
import statistics
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass

from limbo_compress.run.executor import Ending, Executor
from limbo_compress.run.processes import ProcessEngine

SAMPLES_A_SHARD = 32


@dataclass(frozen=True)
class Shard:
    """A task that takes no time."""

    def __len__(self) -> int:
        return SAMPLES_A_SHARD

    def divide(self) -> Sequence["Shard"]:
        raise NotImplementedError

    def give_up(self, ending: Ending) -> int:
        raise RuntimeError(ending.text)


def work(shard: Shard) -> Generator[str, None, int]:
    """Say what begins, as a worker does for each sample."""
    for sample in range(len(shard)):
        yield f"sample {sample}"
    return 0


def measure(workers: int, shards: int) -> tuple[float, float]:
    """Return the seconds of CPU until all workers have answered, and per shard after that."""
    with ProcessEngine[Shard, int](work, workers) as engine:
        begun = time.process_time()
        results = Executor(engine).run([Shard()] * (workers + shards))
        for _ in range(workers):
            next(results)
        started = time.process_time()
        for _ in range(shards):
            next(results)
        ended = time.process_time()
        results.close()
    return started - begun, (ended - started) / shards


def main() -> None:
    """Print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=[4, 64, 256])
    parser.add_argument("--shards", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    print("workers  CPU until all have answered  CPU per shard")
    for workers in arguments.workers:
        rounds = [measure(workers, arguments.shards) for _ in range(arguments.rounds)]
        start, shard = (statistics.median(values) for values in zip(*rounds, strict=True))
        print(f"{workers:7}  {start:25.3f} s  {1e3 * shard:10.3f} ms")


if __name__ == "__main__":
    main()
