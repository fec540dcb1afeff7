"""The client with real pools: values, failover, draining, limits, TLS."""

import asyncio
import contextlib
import gc
import itertools
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from indexer.client import AsyncClient, Chunking, Client, Document, Status
from indexer.config import FlowConfig
from indexer.errors import AwayError, ConfigError, PoolError
from tests.integration.conftest import TRAP_DIM, TRAP_WORDS

StartWorker = Callable[..., Any]
COUNT = 20_000


def _text(number: int) -> str:
    """Returns some words of the trap bundle's vocabulary, other ones for each number."""
    return " ".join(f"w{(number * step) % 96}" for step in range(1, 2 + number % 29)) + f" w{number % 96}"


def _oracle(text: str) -> NDArray[np.float32]:
    """Returns what the trap bundle's model computes: the mean of its words' rows."""
    table = np.random.default_rng(0).standard_normal((len(TRAP_WORDS), TRAP_DIM)).astype(np.float32)
    mean: NDArray[np.float32] = table[[TRAP_WORDS.index(word) for word in text.split()]].mean(axis=0)
    return mean


def _check(documents: list[Document], texts: list[str]) -> None:
    """Every text has exactly one outcome, in order, and the right vector."""
    assert [document.index for document in documents] == list(range(len(texts)))
    assert {document.code for document in documents} == {Status.OK}
    vectors = np.stack([document.vector for document in documents if document.vector is not None])
    np.testing.assert_allclose(vectors, np.stack([_oracle(text) for text in texts]), atol=1e-5)


def _kill(server: Any) -> None:
    server.process.send_signal(signal.SIGKILL)
    server.process.wait(30)


def test_vectors_arrive_as_they_were_computed(trap_bundle: Path, start_worker: StartWorker) -> None:
    """Each type, cut or whole, of queries and documents: float32 values near an oracle's, within rounding."""
    server = start_worker(trap_bundle, "--processes", "1")
    texts = [_text(number) for number in range(40)]
    whole = np.stack([_oracle(f"w1 w2 {text}") for text in texts])
    plain = np.stack([_oracle(text) for text in texts])
    with Client(server.address) as client:
        model = client.model()
        assert (model.dim, model.prompts) == (TRAP_DIM, {"question": "w1 w2 "})
        for kind, error in (("float32", 1e-5), ("float16", 2e-3), ("int8", None)):
            for dimensions in (0, 3):
                wide = dimensions or TRAP_DIM
                answer = client.embed_query(texts, vector_type=kind, dimensions=dimensions)
                found = client.embed_documents(texts, vector_type=kind, dimensions=dimensions)
                rows = np.stack([one.vector for one in found if one.vector is not None])
                for vectors, expected in ((answer.vectors, whole[:, :wide]), (rows, plain[:, :wide])):
                    assert vectors.dtype == np.float32
                    # int8: half a step of each row's own scale, its largest magnitude / 127.
                    bound = np.abs(expected).max(axis=1, keepdims=True) / 254 * 1.01 + 1e-6
                    assert (np.abs(vectors - expected) <= (bound if error is None else error)).all(), kind
        named = client.embed_query(texts[:1], prompt_name="question").vectors
        assert np.array_equal(named, client.embed_query(texts[0]).vectors)
        assert answer.token_counts.tolist() == [2 + len(text.split()) for text in texts]
        assert answer.timing.run > 0
        with pytest.raises(PoolError) as caught:
            client.embed_query(["w1", ""])
        assert caught.value.code == "INVALID_ARGUMENT"
        assert "texts[1]" in str(caught.value)


def test_long_texts_are_cut_or_go_in_windows(trap_bundle: Path, start_worker: StartWorker) -> None:
    """100 tokens at a model of 32: cut and told, or in four windows whose weighted mean is the whole's."""
    server = start_worker(trap_bundle, "--processes", "1")
    text = " ".join(f"w{number % 96}" for number in range(100))
    with Client(server.address) as client:
        (cut,) = client.embed_documents([text])
        (whole,) = client.embed_documents([text], chunking=Chunking())
        (refused,) = client.embed_documents([text], reject_long=True)
        narrow = client.embed_query(text, chunking=Chunking(window_tokens=16), prompt_name="question")
    assert (cut.truncated, cut.windows, cut.token_count) == (True, 1, 32)
    assert (whole.truncated, whole.windows, whole.token_count) == (False, 4, 100)
    assert (refused.ok, refused.code) == (False, Status.INVALID_ARGUMENT)
    assert whole.vector is not None
    np.testing.assert_allclose(whole.vector, _oracle(text), atol=1e-5)
    assert narrow.windows.tolist() == [7]
    assert not narrow.truncated.any()


def test_bad_documents_are_outcomes_among_the_good(trap_bundle: Path, start_worker: StartWorker) -> None:
    """Empty, not UTF-8, too large, failing in the model: each has its code in its place, others a vector."""
    server = start_worker(trap_bundle, "--processes", "1", "--max-text-bytes", "1000")
    texts: list[str | bytes] = ["w1", "", b"\xff", "w2 " * 500, "\ud800", "fail", "w3"]
    with Client(server.address) as client:
        found = list(client.embed_documents(texts))
        assert list(client.embed_documents([])) == []
    assert [document.index for document in found] == list(range(7))
    assert [document.ok for document in found] == [True, False, False, False, False, False, True]
    wrong = Status.INVALID_ARGUMENT
    assert [document.code for document in found[1:6]] == [wrong, wrong, wrong, wrong, Status.INTERNAL]
    assert "1500 bytes, the pool takes 1000" in found[3].message
    last = found[6].vector
    assert last is not None
    np.testing.assert_allclose(last, _oracle("w3"), atol=1e-6)


def test_a_pool_that_is_killed_loses_nothing(trap_bundle: Path, start_worker: StartWorker) -> None:
    """One of two pools is killed in the middle of a stream: each document has one outcome, the right one."""
    doomed, other = (start_worker(trap_bundle, "--processes", "1") for _ in range(2))
    texts = [_text(number) for number in range(COUNT)]
    log: list[str] = []
    flow = FlowConfig(bytes_in_flight=1 << 20, retry_seconds=2)
    with Client([doomed.address, other.address], flow=flow, log=log.append) as client:
        found = []
        for document in client.embed_documents(texts):
            found.append(document)
            if document.index == COUNT // 4:
                _kill(doomed)
        assert any(doomed.address in line for line in log)
        for _ in range(20):  # queries go on too, and find the other one
            assert client.embed_query("w1", timeout=20).target == other.address
    _check(found, texts)


def test_asynchronous_calls_survive_a_killed_pool(trap_bundle: Path, start_worker: StartWorker) -> None:
    """The same with asyncio, queries and documents side by side, the input itself asynchronous."""
    doomed, other = (start_worker(trap_bundle, "--processes", "1") for _ in range(2))
    texts = [_text(number) for number in range(COUNT // 2)]

    async def source() -> AsyncIterator[str]:
        for text in texts:
            yield text

    async def main() -> list[Document]:
        flow = FlowConfig(bytes_in_flight=1 << 20, retry_seconds=2)
        async with AsyncClient(f"{doomed.address},{other.address}", flow=flow) as client:
            found, queries = [], []
            async for document in client.embed_documents(source()):
                found.append(document)
                if document.index == 1000:
                    os.kill(doomed.process.pid, signal.SIGKILL)
                if document.index % 100 == 0:
                    queries.append(asyncio.create_task(client.embed_query(["w1", "w2"], timeout=20)))
            for answer in await asyncio.gather(*queries):
                expected = np.stack([_oracle("w1 w2 w1"), _oracle("w1 w2 w2")])
                np.testing.assert_allclose(answer.vectors, expected, atol=1e-5)
            return found

    _check(asyncio.run(main()), texts)


def test_a_draining_pool_finishes_and_gets_no_more(trap_bundle: Path, start_worker: StartWorker) -> None:
    """A pool that is stopped in order exits well while its documents and all that follow are answered."""
    drained, other = (start_worker(trap_bundle, "--processes", "1") for _ in range(2))
    texts = [_text(number) for number in range(COUNT)]
    flow = FlowConfig(bytes_in_flight=1 << 20, retry_seconds=2)
    with Client([drained.address, other.address], flow=flow) as client:
        found = []
        for document in client.embed_documents(texts):
            found.append(document)
            if document.index == COUNT // 4:
                drained.process.send_signal(signal.SIGTERM)
            if document.index % 1000 == 0:
                assert client.embed_query("w1", timeout=20).vectors.shape == (1, TRAP_DIM)
    assert drained.process.wait(30) == 0
    _check(found, texts)


def test_the_input_is_read_only_as_far_as_memory_allows(trap_bundle: Path, start_worker: StartWorker) -> None:
    """A slow reader holds a fast source back: what was read and not yet taken stays within the bytes."""
    server = start_worker(trap_bundle, "--processes", "1")
    read = taken = worst = 0

    def source() -> Iterator[str]:
        nonlocal read
        for number in range(5000):
            read += 1
            yield _text(number)

    limit = 100_000
    with Client(server.address, flow=FlowConfig(bytes_in_flight=limit)) as client:
        for _ in client.embed_documents(source()):
            taken += 1
            worst = max(worst, read - taken)
    assert taken == 5000
    assert worst * (256 + 4 * TRAP_DIM) <= limit + 2 * 64 * (256 + 4 * TRAP_DIM + 120)


def test_a_stream_that_is_left_early_ends(trap_bundle: Path, start_worker: StartWorker) -> None:
    """Leaving the loop ends the call at the pool; the client goes on, and is closed once and for all."""
    server = start_worker(trap_bundle, "--processes", "1")
    with Client(server.address) as client:
        stream = client.embed_documents(_text(number) for number in range(COUNT))
        assert next(stream).index == 0
        stream.close()  # type: ignore[attr-defined]  # it is a generator
        assert client.embed_query("w1").vectors.shape == (1, TRAP_DIM)
    with pytest.raises(PoolError, match="closed"):
        client.embed_query("w1")


def test_streams_that_are_left_hold_no_connection(trap_bundle: Path, start_worker: StartWorker) -> None:
    """The sockets of ended streams go with them, at the pool too, without Python looking for cycles."""
    server = start_worker(trap_bundle, "--processes", "1")

    def sockets() -> int:
        found = 0
        for link in Path(f"/proc/{server.process.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # it was closed since it was listed
                found += str(link.readlink()).startswith("socket:")
        return found

    gc.collect()
    gc.disable()
    try:
        with Client(server.address) as client:
            client.embed_query("w1")
            before = sockets()
            for number in range(20):
                stream = client.embed_documents(_text(place) for place in range(500))
                list(itertools.islice(stream, number))
                stream.close()  # type: ignore[attr-defined]  # it is a generator
            deadline = time.monotonic() + 10
            while sockets() > before + 1 and time.monotonic() < deadline:
                client.embed_query("w1")  # the pool hears of the last ends within a call or two
            assert sockets() <= before + 1
    finally:
        gc.enable()


def test_nobody_there_is_told_in_time() -> None:
    """No pool at any address: the error names them when the timeout is over."""
    with Client("127.0.0.1:1,127.0.0.1:2") as client, pytest.raises(AwayError) as caught:
        client.embed_query("w1", timeout=0.5)
    assert "127.0.0.1:1" in str(caught.value)
    assert "127.0.0.1:2" in str(caught.value)
    with pytest.raises(ConfigError, match="name no address"):
        Client(" , ")
