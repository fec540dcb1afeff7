"""A text's vector is the same, bit for bit, whatever happens around it."""

import os
import queue
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from embedpool.v1 import embedding_service_pb2 as pb
from worker.bundle import read_bundle
from worker.session import Session
from worker.tokenizer import Tokenizer

SECONDS = 60.0
TEXTS = [f"{'word ' * (number * 7 % 60)}text number {number}" for number in range(40)]


@pytest.fixture(scope="module")
def expected(tiny_bundle: Path) -> dict[str, bytes]:
    """Each text to its packed vector, computed in this process, alone."""
    bundle = read_bundle(tiny_bundle)
    assert bundle.manifest.max_group_tokens == 0, "the bundle must run each text alone"
    session = Session(bundle)
    tokens = Tokenizer(bundle.tokenizer, bundle.manifest.max_tokens).encode(TEXTS)
    return {
        text: session.embed([one.ids]).astype("<f4").tobytes()
        for text, one in zip(TEXTS, tokens, strict=True)
    }


def rows(vectors: Any) -> list[bytes]:
    """Cuts packed vectors into rows."""
    size = 4 * vectors.dim
    return [vectors.data[start : start + size] for start in range(0, len(vectors.data), size)]


def test_alone_and_in_queries(
    start_shared_worker: Callable[..., Any],
    stub_for: Callable[..., Any],
    tiny_bundle: Path,
    expected: dict[str, bytes],
) -> None:
    """Alone, or beside others in one query: as the bundle run in process."""
    stub = stub_for(start_shared_worker(tiny_bundle))
    for text in TEXTS[:10]:
        assert rows(stub.EmbedQuery(pb.EmbedQueryRequest(texts=[text]), timeout=SECONDS).vectors) == [
            expected[text]
        ]
    together = stub.EmbedQuery(pb.EmbedQueryRequest(texts=TEXTS[:30]), timeout=SECONDS)
    assert rows(together.vectors) == [expected[text] for text in TEXTS[:30]]


def test_in_batches_beside_any_neighbours(
    start_shared_worker: Callable[..., Any],
    stub_for: Callable[..., Any],
    tiny_bundle: Path,
    expected: dict[str, bytes],
) -> None:
    """In batches of every size and order, with broken texts between: the same bits."""
    stub = stub_for(start_shared_worker(tiny_bundle))
    dice = random.Random(0)
    sent: dict[int, list[str]] = {}
    for number in range(40):
        sent[number] = dice.sample([*TEXTS, ""], dice.randint(1, len(TEXTS)))
    batches = [
        pb.EmbedDocumentsRequest(batch_id=number, texts=[text.encode() for text in texts])
        for number, texts in sent.items()
    ]
    answers = list(stub.EmbedDocuments(iter(batches), timeout=SECONDS))
    assert len(answers) == len(sent)
    for answer in answers:
        assert rows(answer.vectors) == [expected[text] for text in sent[answer.batch_id] if text]


def test_on_every_process_and_after_its_replacement(
    start_worker: Callable[..., Any],
    stub_for: Callable[..., Any],
    tiny_bundle: Path,
    expected: dict[str, bytes],
) -> None:
    """Without one process or the other, and with those that replace them: the same bits."""
    server = start_worker(tiny_bundle)
    orders: queue.Queue[pb.EmbedDocumentsRequest | None] = queue.Queue()
    answers = stub_for(server).EmbedDocuments(iter(orders.get, None), timeout=SECONDS)
    for victim in (None, *server.child_pids()):
        if victim is not None:
            os.kill(victim, signal.SIGKILL)
        for number, text in enumerate(TEXTS):
            orders.put(pb.EmbedDocumentsRequest(batch_id=number, texts=[text.encode()]))
        for _ in TEXTS:
            answer = next(answers)
            assert rows(answer.vectors) == [expected[TEXTS[answer.batch_id]]]
    orders.put(None)
    assert list(answers) == []


def test_after_a_restart_of_the_server(
    start_worker: Callable[..., Any],
    stub_for: Callable[..., Any],
    tiny_bundle: Path,
    expected: dict[str, bytes],
) -> None:
    """A server that is stopped and started again computes the same bits."""
    for _ in range(2):
        server = start_worker(tiny_bundle)
        response = stub_for(server).EmbedQuery(pb.EmbedQueryRequest(texts=TEXTS[:5]), timeout=SECONDS)
        assert rows(response.vectors) == [expected[text] for text in TEXTS[:5]]
        assert server.terminate() == 0
