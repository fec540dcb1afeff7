"""What processes cost in memory: by how many there are, and while texts of all shapes go through.

    python -m tests.bench.memory BUNDLE [--processes 1,2,4] [--documents N]

Processes are forked as the server has them forked; there may be more of them than CPUs. Memory is given as
PSS: shared pages divided among those that share them, so that a sum is what the machine gives.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from worker.models import load_model
from worker.processes.pool import Pool
from worker.processes.procfs import Memory, read_memory
from worker.scheduling.gather import Gather
from worker.scheduling.scheduler import Priority
from worker.scheduling.work import Work
from worker.settings.config import ServeConfig
from worker.statistics import Statistics

_MIB = 1024 * 1024
_SEED = 0  # of the made-up texts; arbitrary
_BATCH = 200  # texts submitted in one go; arbitrary
_LAST_ID = 1000  # token ids below it are in every vocabulary


@asynccontextmanager
async def running(bundle: Path, processes: int) -> AsyncIterator[Pool]:
    """Starts a pool of that many processes and stops it."""
    config = ServeConfig(bundle, "unused", processes, (None,) * processes)
    pool = Pool(load_model(bundle, 1, 0), config, lambda live: None, Statistics())
    try:
        await pool.start()
        yield pool
    finally:
        await pool.stop()


def shapes(count: int, longest: int, seed: int = _SEED) -> list[NDArray[np.int64]]:
    """Returns texts of random lengths from 1 to `longest` tokens."""
    dice = np.random.default_rng(seed)
    return [dice.integers(5, _LAST_ID, int(dice.integers(1, longest + 1))) for _ in range(count)]


async def embed(pool: Pool, texts: Sequence[NDArray[np.int64]]) -> None:
    """Embeds texts; fails when one fails."""
    done = asyncio.Event()
    gather = Gather(len(texts), pool.current.manifest.dim, done.set)
    works = [
        Work(1, Priority.BULK, len(ids), ids=ids, model=pool.current, sink=gather, row=row)
        for row, ids in enumerate(texts)
    ]
    pool.submit(works)
    await done.wait()
    if gather.errors:
        raise RuntimeError(str(gather.errors))


def measure(pool: Pool) -> list[Memory]:
    """Returns the memory of the zygote and of each process."""
    pids = [view.pid for view in pool.processes()]
    parent = Path(f"/proc/{pids[0]}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1]
    return [read_memory(int(parent)), *map(read_memory, pids)]


async def by_processes(bundle: Path, counts: Sequence[int]) -> None:
    """Prints the memory of pools of several sizes after each process computed short and long texts."""
    size = (bundle / "model.onnx").stat().st_size / _MIB
    print(f"model.onnx {size:.0f} MiB")
    print(
        "| processes | zygote and processes, MiB PSS | each further, MiB | of the file | private each, MiB |"
    )
    print("|---|---|---|---|---|")
    first = None
    for count in counts:
        async with running(bundle, count) as pool:
            await embed(pool, shapes(30 * count, pool.current.manifest.max_tokens))
            memory = measure(pool)
        total = sum(one.proportional for one in memory) / _MIB
        first = first or (total, count)
        further = (total - first[0]) / (count - first[1]) if count > first[1] else 0.0
        private = max(one.private for one in memory[1:]) / _MIB
        print(f"| {count} | {total:.0f} | {further:.0f} | {further / size:.2f} | {private:.0f} |", flush=True)


async def over_time(bundle: Path, documents: int) -> None:
    """Prints the memory of one process while texts of random lengths go through, ten times as they go."""
    print("| texts | RSS, MiB | private, MiB |\n|---|---|---|")
    async with running(bundle, 1) as pool:
        step = max(_BATCH, documents // 20)
        for first in range(0, documents + 1, step):
            (_, memory) = measure(pool)
            print(f"| {first} | {memory.resident / _MIB:.1f} | {memory.private / _MIB:.1f} |", flush=True)
            for batch in range(first, min(first + step, documents), _BATCH):
                await embed(pool, shapes(_BATCH, pool.current.manifest.max_tokens, seed=batch))


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path, exists=True))
@click.option("--processes", default="1,2,4", show_default=True, help="Sizes of the pools.")
@click.option("--documents", default=0, show_default=True, help="Texts of random lengths; 0: none.")
def main(bundle: Path, processes: str, documents: int) -> None:
    """Measure the memory of compute processes."""
    asyncio.run(by_processes(bundle, [int(count) for count in processes.split(",")]))
    if documents:
        asyncio.run(over_time(bundle, documents))


if __name__ == "__main__":
    main()
