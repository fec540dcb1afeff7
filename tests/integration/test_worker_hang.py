"""Processes that do nothing, crash again and again, or lose the one that forks them."""

import asyncio
import dataclasses
import os
import select
import shutil
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from numpy.typing import NDArray

from embedpool.v1 import embedding_service_pb2 as pb
from worker.bundle import read_bundle, write_manifest
from worker.errors import ModelError, PoisonError
from worker.models import load_model
from worker.processes.lifecycle import State
from worker.processes.pool import Pool
from worker.scheduling.gather import Gather
from worker.scheduling.scheduler import Priority
from worker.scheduling.work import Work
from worker.session import Session
from worker.settings.config import ServeConfig
from worker.statistics import End, Statistics

SECONDS = 60.0
Ids = NDArray[np.int64]


@asynccontextmanager
async def running(
    bundle: Path, processes: int = 1, **settings: Any
) -> AsyncIterator[tuple[Pool, Statistics, "asyncio.Queue[bool]"]]:
    """Starts a pool and stops it."""
    config = ServeConfig(bundle, "unused", processes, (None,) * processes, **settings)
    changes: asyncio.Queue[bool] = asyncio.Queue()
    statistics = Statistics()
    pool = Pool(load_model(bundle, 1, 0), config, changes.put_nowait, statistics)
    try:
        await pool.start()
        assert await changes.get()
        yield pool, statistics, changes
    finally:
        await pool.stop()


def submit(pool: Pool, texts: list[Ids]) -> tuple[Gather, asyncio.Event]:
    """Submits texts; returns what takes their outcomes, and what is set when all are there."""
    done = asyncio.Event()
    gather = Gather(len(texts), pool.current.manifest.dim, done.set)
    works = [
        Work(1, Priority.BULK, len(ids), ids=ids, model=pool.current, sink=gather, row=row)
        for row, ids in enumerate(texts)
    ]
    pool.submit(works)
    return gather, done


async def replaced(pool: Pool, changes: "asyncio.Queue[bool]") -> None:
    """Returns when the only process of a pool is gone, and another one lives."""
    assert not await asyncio.wait_for(changes.get(), SECONDS)
    assert await asyncio.wait_for(changes.get(), SECONDS)


@pytest.mark.parametrize("computes", [False, True])
def test_stopped_process_is_replaced(tiny_bundle: Path, computes: bool) -> None:
    """A process that is stopped, idle or with a run, is seen, killed and replaced; the run is done again."""
    texts = [np.arange(5, 100)] * 20

    async def scenario() -> None:
        async with running(tiny_bundle, hang_seconds=0.4) as (pool, statistics, changes):
            (view,) = pool.processes()
            os.kill(view.pid, signal.SIGSTOP)
            gather, done = submit(pool, texts if computes else [])
            await replaced(pool, changes)
            (after,) = pool.processes()
            assert (after.restarts, after.pid != view.pid) == (1, True)
            assert statistics.ends == {End.STUCK: 1}
            if computes:
                await asyncio.wait_for(done.wait(), SECONDS)
                assert gather.vectors.tobytes() == Session(read_bundle(tiny_bundle)).embed(texts).tobytes()

    asyncio.run(scenario())


def test_idle_and_busy_processes_are_left_alone(tiny_bundle: Path) -> None:
    """Processes that answer pings, and that compute for many times the limit, are not held to hang."""

    async def scenario() -> None:
        async with running(tiny_bundle, processes=2, hang_seconds=0.2) as (pool, statistics, _):
            pids = [view.pid for view in pool.processes()]
            began = pool._clock.now()  # the pool's own time: gaps of a busy machine do not count
            while pool._clock.now() - began < 1.0:
                _, done = submit(pool, [np.arange(5, 100)] * 50)
                await asyncio.wait_for(done.wait(), SECONDS)
            assert [view.pid for view in pool.processes()] == pids
            assert not statistics.ends

    asyncio.run(scenario())


def test_text_over_which_processes_hang_fails_after_two(trap_bundle: Path) -> None:
    """A model that computes for ever ends two processes, and its text is held to be guilty."""

    async def scenario() -> None:
        async with running(trap_bundle, run_seconds=0.4) as (pool, statistics, _):
            gather, done = submit(pool, [np.array([5, 1, 6]), np.array([7])])
            await asyncio.wait_for(done.wait(), SECONDS)
            assert isinstance(gather.errors.pop(0), PoisonError)
            assert not gather.errors
            assert statistics.ends == {End.STUCK: 2}

    asyncio.run(scenario())


def test_only_crashes_are_held_against_a_text(trap_bundle: Path) -> None:
    """A text outlives processes that are killed from outside, and fails with the second that crashes."""

    async def scenario() -> None:
        async with running(trap_bundle) as (pool, statistics, changes):
            gather, done = submit(pool, [np.array([5, 1, 6])])
            for blow in (signal.SIGKILL, signal.SIGKILL, signal.SIGSEGV, signal.SIGSEGV):
                assert not done.is_set()
                # A process may be at work before the zygote has told its pid, and pid 0 means us all.
                while (view := pool.processes()[0]).state is not State.RUNNING or not view.pid:
                    await asyncio.sleep(0.01)
                os.kill(view.pid, blow)
                await replaced(pool, changes)
            assert isinstance(gather.errors[0], PoisonError)
            assert statistics.ends == {End.KILLED: 2, End.CRASHED: 2}

    asyncio.run(scenario())


def parent(pid: int) -> int:
    """Returns the parent of a process."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGSTOP])
def test_processes_serve_on_without_their_zygote(
    tiny_bundle: Path, blow: signal.Signals, caplog: pytest.LogCaptureFixture
) -> None:
    """A zygote killed or stopped amid a stream: no process ends, no text fails, and another one forks."""
    texts = [np.arange(5, 60)] * 2000

    async def scenario() -> None:
        async with running(tiny_bundle, processes=2, hang_seconds=0.4) as (pool, statistics, _):
            before = [view.pid for view in pool.processes()]
            first = parent(before[0])
            gather, done = submit(pool, texts)
            watched = os.pidfd_open(first)
            os.kill(first, blow)
            await asyncio.wait_for(asyncio.to_thread(select.select, [watched], [], []), SECONDS)
            os.close(watched)
            await asyncio.wait_for(done.wait(), SECONDS)
            assert not gather.errors
            assert [view.pid for view in pool.processes()] == before
            assert not statistics.ends
            os.kill(before[0], signal.SIGKILL)
            while pool.processes()[0].pid in {0, before[0]} or pool.processes()[0].state is not State.IDLE:
                await asyncio.sleep(0.01)
            assert parent(pool.processes()[0].pid) != first
            assert statistics.ends == {End.KILLED: 1}

    asyncio.run(asyncio.wait_for(scenario(), SECONDS))
    assert "zygote gone" in caplog.text


def test_process_holds_no_descriptor_of_others(tiny_bundle: Path) -> None:
    """A compute process has its own socket beside stdin, stdout and stderr, and nothing else.

    Not even the database in which ONNX Runtime would keep what it tells its maker.
    """

    async def scenario() -> None:
        async with running(tiny_bundle, processes=3) as (pool, _, _):
            sockets = []
            for view in pool.processes():
                links = [str(link.readlink()) for link in Path(f"/proc/{view.pid}/fd").iterdir()]
                assert len(links) == 4, links
                sockets += [link for link in links if link.startswith("socket:")]
            assert len(set(sockets)) == 3

    asyncio.run(scenario())


def nothing_yet() -> str:
    """Leaves the CPU to others for a moment: a log tells nobody that it grew."""
    time.sleep(0.02)
    return ""


def test_crash_loop_slows_down_and_is_told(
    start_worker: Callable[..., Any], stub_for: Callable[..., Any], trap_bundle: Path, tmp_path: Path
) -> None:
    """A zygote that cannot load any more is tried ever more slowly; the server is NOT_SERVING meanwhile."""
    folder = shutil.copytree(trap_bundle, tmp_path / "bundle")
    server = start_worker(folder)
    manifest = read_bundle(folder).manifest
    model = (folder / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(b"")
    with grpc.insecure_channel(server.address) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=SECONDS)
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        for pid in [*server.zygote_pids(), *server.child_pids()]:
            os.kill(pid, signal.SIGKILL)
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        with server.log.open() as log:
            failures = 0
            while failures < 3:
                failures += "model not loaded" in (log.readline() or nothing_yet())
        (folder / "model.onnx").write_bytes(model)
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        watch.cancel()
    query = pb.EmbedQueryRequest(texts=["w1"])
    answer = stub_for(server).EmbedQuery(query, timeout=SECONDS)
    assert answer.model_fingerprint == manifest.fingerprint


def test_model_that_fails_its_check_never_serves(trap_bundle: Path, tmp_path: Path) -> None:
    """A bundle that computes other lengths than its manifest promises is refused at the start."""
    folder = shutil.copytree(trap_bundle, tmp_path / "bundle")
    write_manifest(folder, dataclasses.replace(read_bundle(folder).manifest, normalize=True))

    async def scenario() -> None:
        with pytest.raises(ModelError, match="the manifest says 1"):
            async with running(folder):
                pass

    asyncio.run(scenario())
