"""Three pools behind cables of their own: one is cut off, one is slow, all are away, and names change."""

import asyncio
import contextlib
import os
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from build_models.quality.docstrings import Docstring
from indexer.client import AsyncClient, Client, Document, NameConfig
from indexer.config import FlowConfig
from indexer.errors import AwayError
from tests.integration.indexer.pods import PORT, Pod, pods

FLOW = FlowConfig(bytes_in_flight=1 << 20, echo_seconds=0.5)
WAIT_SECONDS = 60.0


@pytest.fixture(scope="module")
def three(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Pod]]:
    """Three pools of one process each, which the tests leave as they are."""
    with pods(tiny_bundle, tmp_path_factory.mktemp("three"), 3) as made:
        yield made


@contextlib.contextmanager
def _cut(*some: Pod) -> Iterator[None]:
    for pod in some:
        pod.cut()
    try:
        yield
    finally:
        for pod in some:
            pod.heal()


async def _until(done: Callable[[], Awaitable[bool]]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not await done():
        assert time.monotonic() < deadline, "it did not come in time"


def _check(found: list[Document], whole: list[Document]) -> None:
    """Each document was answered exactly once, and as a pool that nothing happened to answers it."""
    assert [document.index for document in found] == list(range(len(whole)))
    assert all(document.ok for document in found)
    vectors, expected = (
        np.stack([one.vector for one in some if one.vector is not None]) for some in (found, whole)
    )
    np.testing.assert_allclose((vectors * expected).sum(axis=1), 1.0, atol=1e-3)


def test_a_pool_that_is_cut_off_costs_no_caller_an_error(
    three: list[Pod], some_docstrings: list[Docstring]
) -> None:
    """Queries go on within seconds, documents are answered once each; when the cut ends it is used again."""
    texts = [f"{number} {some_docstrings[number % 500].text[:200]}" for number in range(3000)]
    lost, *others = three
    log: list[str] = []

    async def main() -> tuple[list[Document], list[float]]:
        async with AsyncClient([pod.address for pod in three], flow=FLOW, log=log.append) as client:
            found: list[Document] = []
            seconds: list[float] = []
            over = asyncio.Event()

            async def ask() -> None:
                while not over.is_set():
                    began = time.monotonic()
                    answer = await client.embed_query("words", timeout=20)
                    seconds.append(time.monotonic() - began)
                    assert answer.vectors.shape == (1, 32)

            callers = [asyncio.create_task(ask()) for _ in range(3)]
            with contextlib.ExitStack() as cut:
                async for document in client.embed_documents(texts):
                    found.append(document)
                    if document.index == len(texts) // 4:
                        cut.enter_context(_cut(lost))
            over.set()
            await asyncio.gather(*callers)

            async def used_again() -> bool:
                return (await client.embed_query("words")).target == lost.address

            await _until(used_again)
            return found, seconds

    found, seconds = asyncio.run(main())
    assert max(seconds) < 15  # an attempt that waits for the lost pool takes 20
    assert any(lost.address in line for line in log)
    with Client(others[0].address) as client:
        _check(found, list(client.embed_documents(texts)))


def test_equal_pools_get_equal_shares_and_a_slow_one_less(three: list[Pod]) -> None:
    """600 queries by twelve callers: about a third each; a pool whose process is stopped gets few more."""
    slow = three[0]

    async def ask(client: AsyncClient, count: int) -> Counter[str]:
        async def some() -> list[str]:
            return [(await client.embed_query("some words")).target for _ in range(count // 12)]

        return Counter(
            target for part in await asyncio.gather(*(some() for _ in range(12))) for target in part
        )

    async def main() -> tuple[Counter[str], Counter[str]]:
        async with AsyncClient([pod.address for pod in three]) as client:
            equal = await ask(client, 600)
            (stopped,) = slow.child_pids()
            os.kill(stopped, signal.SIGSTOP)
            try:
                return equal, await ask(client, 240)
            finally:
                with contextlib.suppress(ProcessLookupError):  # the pool replaces one that hangs
                    os.kill(stopped, signal.SIGCONT)

    equal, skewed = asyncio.run(main())
    assert {pod.address for pod in three} == set(equal)
    assert all(0.20 * 600 <= count <= 0.47 * 600 for count in equal.values()), equal
    assert skewed[slow.address] < min(skewed[pod.address] for pod in three[1:]), skewed


def test_all_pools_away_are_told_and_waited_for(three: list[Pod]) -> None:
    """With every cable cut the error names each pool; a caller with patience gets an answer afterwards."""

    async def main() -> None:
        async with AsyncClient([pod.address for pod in three]) as client:
            await client.embed_query("words")
            with _cut(*three):
                with pytest.raises(AwayError) as caught:
                    await client.embed_query("words", timeout=1.0)
                assert caught.value.code
                patient = asyncio.create_task(client.embed_query("words", timeout=WAIT_SECONDS))
                await asyncio.wait({patient}, timeout=0.5)
                assert not patient.done()
            assert (await patient).vectors.shape == (1, 32)

    asyncio.run(main())


def test_a_service_that_is_rolled_loses_nothing(
    tiny_bundle: Path, tmp_path: Path, some_docstrings: list[Docstring]
) -> None:
    """Under one name two pools join in the middle of bulk work, the first leaves and is stopped in order."""
    texts = [f"{number} {some_docstrings[number % 500].text[:200]}" for number in range(6000)]
    log: list[str] = []

    async def main(made: list[Pod]) -> None:
        first = made[0]
        answer = [first.address]
        names = NameConfig(refresh_seconds=0.2, resolve=lambda host, port: list(answer))
        async with AsyncClient("dns:///pool:50051", flow=FLOW, names=names, log=log.append) as client:
            found: list[Document] = []
            targets: list[str] = []
            async for document in client.embed_documents(texts):
                found.append(document)
                if document.index == 500:
                    answer[:] = [pod.address for pod in made]
                if document.index == 2500:
                    answer.remove(first.address)
                    first.drain()
                if document.index % 50 == 0:
                    targets.append((await client.embed_query("words", timeout=20)).target)
            assert [document.index for document in found] == list(range(len(texts)))
            assert all(document.ok for document in found)
            assert set(targets[:10]) == {first.address}
            assert first.address not in targets[-20:]
            counted = await client.statistics()
            assert set(counted) == {pod.address for pod in made[1:]}
            assert all(one.documents.texts["ok"] > 0 for one in counted.values())
            assert [one.name for one in client.targets] == ["dns:///pool:50051"] * 2

    with pods(tiny_bundle, tmp_path, 3) as made:
        asyncio.run(main(made))
        assert made[0].process.wait(WAIT_SECONDS) == 0
    assert [line for line in log if line.endswith("joins")] == [
        f"dns:///pool:50051: {pod.address} joins" for pod in made
    ]
    assert f"dns:///pool:50051: {made[0].address} leaves" in log


def test_a_run_follows_a_name_of_the_system(
    three: list[Pod], some_docstrings: list[Docstring], indexer: Any, tmp_path: Path
) -> None:
    """/etc/hosts changes during a run: those who join work, who leaves ends; the bytes stay the same."""
    corpus, hosts = tmp_path / "corpus.parquet", tmp_path / "hosts"
    texts = [f"{number} {some_docstrings[number % 500].text}" for number in range(4000)]
    pq.write_table(pa.table({"doc_id": [f"d{n}" for n in range(len(texts))], "text": texts}), corpus)
    run = ["run", "--input", corpus, "--text-columns", "text", "--unit-rows", "100"]
    run += ["--refresh-seconds", "0.2"]
    first, *others = three
    before = _documents(others)
    hosts.write_text(f"{first.ip} embedpool.test\n")
    worker = ["--worker", f"dns:///embedpool.test:{PORT}"]
    process = indexer.start(*run, "--output", tmp_path / "a", *worker, fault="tell 0", hosts=hosts)
    next(line for line in process.stdout if "receipt.json" in line)
    hosts.write_text("".join(f"{pod.ip} embedpool.test\n" for pod in others))
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert f"{first.address} leaves" in err
    assert all(f"{pod.address} joins" in err for pod in three)
    assert all(now > then for now, then in zip(_documents(others), before, strict=True))
    indexer.run(*run, "--output", tmp_path / "b", "--worker", first.address)
    assert indexer.tree(tmp_path / "a") == indexer.tree(tmp_path / "b")


def _documents(some: list[Pod]) -> list[int]:
    """Returns how many documents pools have answered."""
    with Client([pod.address for pod in some]) as client:
        counted = client.statistics()
        return [counted[pod.address].documents.texts.get("ok", 0) for pod in some]
