"""Two hundred processes ended at random: every text has one answer, and it is the right one."""

import contextlib
import os
import queue
import random
import select
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from embedpool.v1 import embedding_service_pb2 as pb
from worker.bundle import read_bundle
from worker.session import Session
from worker.tokenizer import Tokenizer

SECONDS = 120.0
KILLS = 200
STREAMS = 3
TEXTS = [f"{'word ' * (number * 7 % 90)}text number {number}" for number in range(60)]
# Of 100 blows: so many at the zygote, and so many that stop a process instead of killing it.
ZYGOTE_BLOWS, STOPS = 4, 2
# Batches of a stream that wait for their answers at the most: enough for both processes at each moment.
IN_FLIGHT = 20


@pytest.fixture(scope="module")
def expected(tiny_bundle: Path) -> dict[str, bytes]:
    """Each text to its packed vector, computed in this process, alone."""
    bundle = read_bundle(tiny_bundle)
    session = Session(bundle)
    tokens = Tokenizer(bundle.tokenizer, bundle.manifest.max_tokens).encode(TEXTS)
    return {text: session.embed([one.ids]).tobytes() for text, one in zip(TEXTS, tokens, strict=True)}


class Callers:
    """Bulk streams and a caller of queries, that check each answer."""

    def __init__(self, stub: Any, expected: dict[str, bytes]) -> None:
        self._stub = stub
        self._expected = expected
        self._over = threading.Event()
        self._answers: queue.Queue[str] = queue.Queue()
        self.counts: Counter[str] = Counter()
        self._threads = [threading.Thread(target=self._ask)]
        self._threads += [threading.Thread(target=self._stream, args=(seed,)) for seed in range(STREAMS)]
        self._errors: list[BaseException] = []
        for thread in self._threads:
            thread.start()

    def wait_for_answers(self, count: int) -> None:
        """Returns when so many more answers came."""
        for _ in range(count):
            self.counts[self._answers.get(timeout=SECONDS)] += 1

    def end(self) -> None:
        """Ends the streams and waits for all their answers."""
        self._over.set()
        for thread in self._threads:
            thread.join(SECONDS)
            assert not thread.is_alive()
        assert not self._errors, self._errors

    def _ask(self) -> None:
        dice = random.Random(99)
        with self._noted():
            while not self._over.is_set():
                text = dice.choice(TEXTS)
                try:
                    answer = self._stub.EmbedQuery(pb.EmbedQueryRequest(texts=[text]), timeout=SECONDS)
                except grpc.RpcError as error:
                    if error.code() is grpc.StatusCode.UNAVAILABLE:
                        continue  # both processes were gone at this moment: the caller comes again
                    raise
                assert answer.vectors.data == self._expected[text]
                self._answers.put("query")

    def _stream(self, seed: int) -> None:
        dice = random.Random(seed)
        sent: dict[int, list[str]] = {}
        room = threading.Semaphore(IN_FLIGHT)

        def batches() -> Iterator[pb.EmbedDocumentsRequest]:
            while not self._over.is_set():
                texts = dice.choices(TEXTS, k=dice.randint(1, 8))
                sent[len(sent)] = texts
                room.acquire()
                yield pb.EmbedDocumentsRequest(
                    batch_id=len(sent) - 1, texts=[text.encode() for text in texts]
                )

        with self._noted():
            answered: set[int] = set()
            for answer in self._stub.EmbedDocuments(batches(), timeout=SECONDS):
                assert answer.batch_id not in answered
                answered.add(answer.batch_id)
                assert [item.code for item in answer.items] == [0] * len(sent[answer.batch_id])
                assert answer.vectors.data == b"".join(self._expected[text] for text in sent[answer.batch_id])
                room.release()
                self._answers.put("batch")
            assert answered == set(sent)

    @contextlib.contextmanager
    def _noted(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            self._errors.append(error)
            raise


def strike(pid: int, blow: signal.Signals) -> None:
    """Sends a signal; returns when the process has ended, by it or by the server that saw it hang."""
    with contextlib.suppress(ProcessLookupError):
        process = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(process, blow)
            ended, _, _ = select.select([process], [], [], SECONDS)
            assert ended
        finally:
            os.close(process)


def test_two_hundred_kills(
    start_worker: Callable[..., Any],
    stub_for: Callable[..., Any],
    tiny_bundle: Path,
    expected: dict[str, bytes],
) -> None:
    """Processes and zygotes killed and stopped under load: each text one answer, bit for bit the model's."""
    server = start_worker(tiny_bundle, "--hang-seconds", "1")
    callers = Callers(stub_for(server), expected)
    dice = random.Random(4)
    blows: Counter[str] = Counter()
    try:
        while blows["kill"] + blows["stop"] + blows["zygote"] < KILLS:
            # At least one, so that no text is in the hands of nine killed processes, which would end it.
            callers.wait_for_answers(dice.randint(1, 6))
            chance = dice.randrange(100)
            kind = "zygote" if chance < ZYGOTE_BLOWS else "stop" if chance < ZYGOTE_BLOWS + STOPS else "kill"
            victims = server.zygote_pids() if kind == "zygote" else server.child_pids()
            if victims:
                strike(dice.choice(victims), signal.SIGSTOP if kind == "stop" else signal.SIGKILL)
                blows[kind] += 1
    finally:
        callers.end()
    log = server.log.read_text()
    assert log.count("process gone") >= blows["kill"] * 0.9, log[-4000:]
    assert log.count("zygote gone") >= 1
    assert log.count("process stuck") >= blows["stop"]
    assert "Traceback" not in log
    assert callers.counts["query"] > 20
    assert server.terminate() == 0
    assert server.child_pids() == server.zygote_pids() == []
