"""Thousands of random and mutated messages: none ends a process, none changes what others get.

FUZZ_REQUESTS says how many are sent (2,000 by default: some seconds), FUZZ_SEED which: what failed can be
sent again.
"""

import contextlib
import os
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from embedpool.v1 import embedding_service_pb2 as pb
from tests.integration.held import SECONDS, counts_of
from tests.integration.messages import Messages
from worker.bundle import read_bundle
from worker.session import Session
from worker.tokenizer import Tokenizer

REQUESTS = int(os.environ.get("FUZZ_REQUESTS", "2000"))
SEED = int(os.environ.get("FUZZ_SEED", "0"))
# Calls under way at the same moment; arbitrary: keeps two processes and the event loop busy.
AT_ONCE = 32
# Requests between two good ones whose vectors are compared.
BETWEEN_GOOD = 100
GOOD = ["a red house", "the list of names " * 40, "rain"]
SERVICE = "/embedpool.v1.EmbeddingService/"
ALLOWED = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}


class Calls:
    """Sends messages, some at once, and notes how they end."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._query = channel.unary_unary(SERVICE + "EmbedQuery")
        self._documents = channel.stream_stream(SERVICE + "EmbedDocuments")
        self._room = threading.Semaphore(AT_ONCE)
        self.ends: Counter[grpc.StatusCode] = Counter()
        self.wrong: list[str] = []

    def query(self, message: bytes) -> None:
        """Sends a query."""
        self._room.acquire()
        call = self._query.future(message, timeout=SECONDS)
        call.add_done_callback(self._ended)

    def stream(self, messages: list[bytes]) -> None:
        """Sends a stream and reads it to its end."""
        self._room.acquire()
        call = self._documents(iter(messages), timeout=SECONDS)
        threading.Thread(target=self._read, args=(call, len(messages))).start()

    def wait(self) -> None:
        """Returns when all calls have ended."""
        for _ in range(AT_ONCE):
            assert self._room.acquire(timeout=2 * SECONDS), "a call has no end"
        self._room.release(AT_ONCE)

    def _read(self, call: Any, sent: int) -> None:
        answers = 0
        with contextlib.suppress(grpc.RpcError):  # `_ended` judges the status, whatever it is
            for raw in call:
                answers += 1
                answer = pb.EmbedDocumentsResponse.FromString(raw)
                good = sum(item.code == 0 for item in answer.items)
                if answer.vectors.rows != good:
                    self.wrong.append(f"{answer.vectors.rows} vectors for {good} items that are OK")
        if answers > sent or (call.code() is grpc.StatusCode.OK and answers != sent):
            self.wrong.append(f"{answers} answers for {sent} batches")
        self._ended(call)

    def _ended(self, call: Any) -> None:
        self.ends[call.code()] += 1
        self._room.release()


@pytest.mark.timeout(600)
def test_no_message_ends_a_process(start_worker: Callable[..., Any], tiny_bundle: Path) -> None:
    """After thousands of messages the same processes live, and good requests had their vectors all along."""
    bundle = read_bundle(tiny_bundle)
    ids = [one.ids for one in Tokenizer(bundle.tokenizer, bundle.manifest.max_tokens).encode(GOOD)]
    expected = Session(bundle).embed(ids).astype("<f4").tobytes()
    server = start_worker(tiny_bundle, "--max-text-bytes", "4000", "--max-batch-bytes", "60000")
    processes = (server.zygote_pids(), server.child_pids())
    messages = Messages(SEED)
    good = pb.EmbedQueryRequest(texts=GOOD).SerializeToString()
    with grpc.insecure_channel(server.address) as channel:
        calls = Calls(channel)
        ask = channel.unary_unary(SERVICE + "EmbedQuery")
        for number in range(REQUESTS):
            if number % 3:
                calls.query(messages.query())
            else:
                calls.stream(messages.stream())
            if number % BETWEEN_GOOD == 0:
                answer = pb.EmbedQueryResponse.FromString(ask(good, timeout=SECONDS))
                assert answer.vectors.data == expected, f"changed after {number} messages of seed {SEED}"
        calls.wait()
        answer = pb.EmbedQueryResponse.FromString(ask(good, timeout=SECONDS))
    assert answer.vectors.data == expected
    assert sum(calls.ends.values()) == REQUESTS
    assert set(calls.ends) <= ALLOWED, calls.ends
    assert min(calls.ends[grpc.StatusCode.OK], calls.ends[grpc.StatusCode.INVALID_ARGUMENT]) > REQUESTS // 20
    assert not calls.wrong
    assert (server.zygote_pids(), server.child_pids()) == processes
    with counts_of(server) as counts:
        now = counts.until(lambda now: not now.open_streams)
        assert dict(now.process_ends) == {}
        assert (now.query_bytes_in_flight, now.document_bytes_in_flight) == (0, 0)
        assert now.queries.waiting == now.documents.waiting == 0
    assert server.terminate() == 0
    assert "Traceback" not in server.log.read_text()
