"""Work whose caller has gone never reaches the model, wherever it waits, and is counted as cancelled."""

import asyncio
import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest

from embedpool.v1 import embedding_service_pb2 as pb
from tests.integration.held import ONE_PROCESS, SECONDS, counts_of, is_running, stopped
from worker.models import load_model
from worker.processes.pool import Pool
from worker.requests.intake import _SHORT_QUERY_CHARACTERS, Intake, Options
from worker.requests.queries import Queries
from worker.scheduling.admission import Admission
from worker.scheduling.scheduler import Priority
from worker.settings.config import ServeConfig
from worker.statistics import Statistics
from worker.tokenizer import Tokenizer
from worker.windows import Windows


def query(*texts: str) -> pb.EmbedQueryRequest:
    """Makes a query."""
    return pb.EmbedQueryRequest(texts=texts)


@pytest.fixture
def server(start_worker: Callable[..., Any], tiny_bundle: Path) -> Any:
    """A server with one process."""
    return start_worker(tiny_bundle, *ONE_PROCESS)


@pytest.mark.parametrize("way", ["deadline", "cancel"])
def test_query_whose_caller_has_gone(server: Any, stub_for: Callable[..., Any], way: str) -> None:
    """Queries that are given up, or whose deadline passes, while they wait are never computed."""
    stub = stub_for(server)
    with counts_of(server) as counts:
        with stopped(server):
            first = stub.EmbedQuery.future(query("a red house"), timeout=SECONDS)
            counts.until(is_running)
            deadline = 0.5 if way == "deadline" else SECONDS
            gone = [stub.EmbedQuery.future(query("rain", "hail"), timeout=deadline) for _ in range(5)]
            if way == "cancel":
                counts.until(lambda now: now.queries.waiting == 10)
                for call in gone:
                    call.cancel()
            else:
                for call in gone:
                    assert call.exception(SECONDS).code() is grpc.StatusCode.DEADLINE_EXCEEDED
            told = counts.until(lambda now: now.queries.texts["cancelled"] == 10)
            assert told.queries.waiting == 0
        assert first.result(SECONDS).vectors.rows == 1
        assert stub.EmbedQuery(query("snow"), timeout=SECONDS).vectors.rows == 1
        now = counts.now()
        assert (now.queries.runs, dict(now.queries.texts)) == (2, {"ok": 2, "cancelled": 10})
        assert now.query_bytes_in_flight == 0


def test_stream_whose_caller_has_gone(server: Any, stub_for: Callable[..., Any]) -> None:
    """Of a stream that is closed only the run that a process holds already is computed, for nobody."""
    stub = stub_for(server)
    texts = [b"word " * 120] * 50
    everything_sent, over = threading.Event(), threading.Event()

    def send() -> Iterator[pb.EmbedDocumentsRequest]:
        for number in range(4):
            yield pb.EmbedDocumentsRequest(batch_id=number, texts=texts)
        everything_sent.set()
        over.wait(SECONDS)

    with counts_of(server) as counts:
        with stopped(server):
            stream = stub.EmbedDocuments(send(), timeout=SECONDS)
            assert everything_sent.wait(SECONDS)
            counts.until(lambda now: now.documents.waiting == 199 and is_running(now))
            stream.cancel()
            over.set()
            told = counts.until(lambda now: now.documents.texts["cancelled"] == 200)
            assert (told.documents.waiting, told.open_streams, told.document_bytes_in_flight) == (0, 0, 0)
        (answer,) = stub.EmbedDocuments(iter([pb.EmbedDocumentsRequest(texts=[b"rain"])]), timeout=SECONDS)
        assert answer.items[0].code == 0
        now = counts.until(lambda now: now.documents.texts["ok"] == 1)
        assert (now.documents.runs, dict(now.documents.texts)) == (2, {"ok": 1, "cancelled": 200})


def test_every_text_is_counted_once(server: Any, stub_for: Callable[..., Any]) -> None:
    """Texts that are embedded, cut, refused or too many: the counts are those of the answers."""
    stub = stub_for(server)
    long = "word " * 500
    answer = stub.EmbedQuery(query("rain", long), timeout=SECONDS)
    with pytest.raises(grpc.RpcError, match="is empty"):
        stub.EmbedQuery(query("rain", ""), timeout=SECONDS)
    batch = pb.EmbedDocumentsRequest(texts=[b"rain", b"\xff", long.encode(), b"", b"hail"])
    (documents,) = stub.EmbedDocuments(iter([batch]), timeout=SECONDS)
    with pytest.raises(grpc.RpcError, match="max_batch_items is 512"):
        list(stub.EmbedDocuments(iter([pb.EmbedDocumentsRequest(texts=[b"a"] * 513)]), timeout=SECONDS))
    with counts_of(server) as counts:
        now = counts.until(lambda now: now.documents.texts["ok"] == 3 and not now.open_streams)
    assert dict(now.queries.texts) == {"ok": 2, "refused": 2}
    assert dict(now.documents.texts) == {"ok": 3, "refused": 2 + 513}
    assert (now.queries.truncated, now.documents.truncated) == (1, 1)
    assert now.queries.tokens == sum(answer.token_counts)
    assert now.documents.tokens == sum(item.token_count for item in documents.items)
    assert now.queries.padded_tokens == now.documents.padded_tokens == 0


class Gated(Intake):
    """Gives tokens out when its gate opens."""

    gate: "asyncio.Future[None]"

    async def query(self, tokenizer: Tokenizer, texts: Sequence[str], options: Options) -> list[Windows]:
        """Tokenizes, then waits."""
        tokenized = await super().query(tokenizer, texts, options)
        await self.gate
        return tokenized


@pytest.mark.parametrize(
    ("moment", "text"),
    [("before its tokens", "rain " * _SHORT_QUERY_CHARACTERS), ("between tokens and pool", "rain")],
)
def test_query_cancelled_before_it_waits_for_a_process(tiny_bundle: Path, moment: str, text: str) -> None:
    """A query given up while it is tokenized, or the moment it was, is not queued and holds nothing."""
    config = ServeConfig(tiny_bundle, "unused", 1, (None,))

    async def scenario() -> None:
        statistics = Statistics()
        pool = Pool(load_model(tiny_bundle, 1, 0), config, lambda live: None, statistics)
        intake = Gated(config.limits)
        intake.gate = asyncio.get_running_loop().create_future()
        admission = Admission(10**6, 5.0, 1, 0.1)
        queries = Queries(itertools.count().__next__, config, pool, intake, admission)
        busy, go_on = threading.Event(), threading.Event()
        try:
            await pool.start()
            if moment == "before its tokens":
                intake._query_thread.submit(busy.set)
                intake._query_thread.submit(go_on.wait, SECONDS)
                assert await asyncio.to_thread(busy.wait, SECONDS)
            task = asyncio.create_task(queries.embed([text], Options(), pool.current))
            while not admission.bytes:
                await asyncio.sleep(0)
            # Both in one turn of the loop: the query is woken up and cancelled at once.
            intake.gate.set_result(None)
            task.cancel()
            go_on.set()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(task, SECONDS)
            assert (pool.waiting(Priority.QUERY), admission.bytes) == (0, 0)
            other = await queries.embed(["hail"], Options(), pool.current)
            assert other.gather.vectors.any()
            assert statistics.classes[Priority.QUERY].runs == 1
        finally:
            go_on.set()
            await pool.stop()
            intake.close()

    asyncio.run(scenario())
