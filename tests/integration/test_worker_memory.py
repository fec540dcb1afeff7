"""What processes cost: little beside the first, and no more after many texts than after a few."""

import asyncio
import os
from pathlib import Path

from tests.bench.memory import embed, measure, running, shapes
from worker.processes.procfs import cpu_ticks, read_memory

MIB = 1024 * 1024
# Growth over 500 texts of random lengths that is rounding: allocators keep what they got. The slope that a
# leak of one text's tensors has is ten times that.
FLAT = 1 * MIB


def test_memory_is_flat_over_random_shapes(tiny_bundle: Path) -> None:
    """After the longest text was seen, 500 texts of random lengths cost no further memory."""

    async def scenario() -> None:
        async with running(tiny_bundle, 1) as pool:
            longest = pool.current.manifest.max_tokens
            await embed(pool, shapes(200, longest, seed=1))
            _, before = measure(pool)
            for seed in range(2, 7):
                await embed(pool, shapes(100, longest, seed=seed))
            _, after = measure(pool)
            assert after.resident - before.resident < FLAT
            assert after.private - before.private < FLAT

    asyncio.run(scenario())


def test_processes_share_what_was_loaded(tiny_bundle: Path) -> None:
    """A process that computed keeps most of its pages in common with the one that it was forked from."""

    async def scenario() -> None:
        async with running(tiny_bundle, 2) as pool:
            await embed(pool, shapes(100, pool.current.manifest.max_tokens))
            zygote, *processes = measure(pool)
            for process in processes:
                assert process.private < 0.25 * zygote.resident
                assert process.proportional < 0.6 * process.resident

    asyncio.run(scenario())


def test_what_the_kernel_tells_of_this_process() -> None:
    """Memory is read in bytes, and its parts fit into each other; CPU time grows."""
    memory = read_memory(os.getpid())
    status = Path("/proc/self/status").read_text()
    (resident,) = [int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS")]
    assert abs(memory.resident - resident) < 0.1 * resident
    assert 0 < memory.private <= memory.proportional <= memory.resident
    before = cpu_ticks(os.getpid())
    while cpu_ticks(os.getpid()) < before + 2:
        sum(range(10_000))
