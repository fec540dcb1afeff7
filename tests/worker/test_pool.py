"""The pool with real processes, without the network."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from worker.bundle import read_bundle
from worker.errors import ModelError, WorkerError
from worker.models import Model, load_model
from worker.processes.crew import Crew
from worker.processes.frames import Answer
from worker.processes.pool import Pool
from worker.processes.slot import Slot
from worker.scheduling.gather import Gather
from worker.scheduling.scheduler import Priority
from worker.scheduling.work import Work
from worker.session import Session
from worker.settings.config import ServeConfig
from worker.statistics import Statistics

SECONDS = 60.0


class CountingPool(Pool):
    """A pool that notes how many texts its processes have computed."""

    computed = 0

    def process_answered(self, crew: Crew, slot: Slot, answer: Answer) -> None:
        """Counts the texts of a run."""
        self.computed += len(answer.vectors)
        super().process_answered(crew, slot, answer)


@asynccontextmanager
async def running(bundle: Path, processes: int = 1, **settings: Any) -> AsyncIterator[CountingPool]:
    """Starts a pool and stops it."""
    config = ServeConfig(bundle, "unused", processes, (None,) * processes, **settings)
    pool = CountingPool(load_model(bundle, 1, 0), config, lambda live: None, Statistics())
    try:
        await pool.start()
        yield pool
    finally:
        await pool.stop()


def works(model: Model, stream: int, gather: Gather, texts: list[NDArray[np.int64]]) -> list[Work]:
    """Makes bulk work of one stream."""
    return [
        Work(stream, Priority.BULK, len(ids), ids=ids, model=model, sink=gather, row=row)
        for row, ids in enumerate(texts)
    ]


def ids(count: int, length: int = 100) -> list[NDArray[np.int64]]:
    """Makes texts of made-up tokens."""
    return list(np.random.default_rng(count).integers(5, 500, (count, length)))


def test_cancelled_text_never_reaches_the_model(tiny_bundle: Path) -> None:
    """Of a cancelled stream no more than the run that a process holds already is computed, and none told."""

    async def scenario() -> None:
        async with running(tiny_bundle) as pool:
            nobody, done = Gather(200, 32, lambda: None), asyncio.Event()
            pool.submit(works(pool.current, 1, nobody, ids(200)))
            pool.cancel(1)
            gather = Gather(3, 32, done.set)
            pool.submit(works(pool.current, 2, gather, ids(3)))
            await asyncio.wait_for(done.wait(), SECONDS)
            assert 0 < pool.computed <= 4
            assert not nobody.vectors.any()
            assert not nobody.errors

    asyncio.run(scenario())


def test_vectors_are_the_session_s_on_two_processes(tiny_bundle: Path) -> None:
    """Texts spread over processes get bit for bit what one session computes."""
    texts = ids(30, 40) + ids(30, 7)
    expected = Session(read_bundle(tiny_bundle)).embed(texts)

    async def scenario() -> None:
        async with running(tiny_bundle, processes=2) as pool:
            done = asyncio.Event()
            gather = Gather(len(texts), 32, done.set)
            pool.submit(works(pool.current, 1, gather, texts))
            await asyncio.wait_for(done.wait(), SECONDS)
            assert gather.vectors.tobytes() == expected.tobytes()
            assert gather.run_ns > 0

    asyncio.run(scenario())


def test_model_that_does_not_load_in_time_fails_the_start(tiny_bundle: Path) -> None:
    """A pool whose model loads for ever does not wait for ever."""

    async def scenario() -> None:
        with pytest.raises(ModelError, match="not loaded within"):
            async with running(tiny_bundle, start_seconds=0.001):
                pass

    asyncio.run(scenario())


def test_stopped_pool_answers_what_waits(tiny_bundle: Path) -> None:
    """Texts that still wait when the pool stops are told that it is unavailable; none is forgotten."""
    texts = ids(500)
    outcomes: dict[int, WorkerError | None] = {}

    class Books:
        def deliver(self, row: int, vector: NDArray[np.float32], queue_ns: int, run_ns: int) -> None:
            assert row not in outcomes
            outcomes[row] = None

        def fail(self, row: int, error: WorkerError) -> None:
            assert row not in outcomes
            outcomes[row] = error

    async def scenario() -> None:
        async with running(tiny_bundle) as pool:
            pool.submit(
                [
                    Work(1, Priority.BULK, 100, ids=text, model=pool.current, sink=Books(), row=row)
                    for row, text in enumerate(texts)
                ]
            )

    asyncio.run(scenario())
    assert sorted(outcomes) == list(range(len(texts)))
