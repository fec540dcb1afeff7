"""Dispatch against servers that misbehave on purpose, over real sockets: no real pool can be made to."""

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import grpc
import pytest
from google.protobuf import any_pb2, duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from embedpool.v1 import embedding_service_pb2 as pb
from embedpool.v1 import embedding_service_pb2_grpc as pb_grpc
from indexer.client import Access, Pool
from indexer.client.answers import Answer
from indexer.client.flow import race
from indexer.config import FlowConfig, PlanConfig
from indexer.documents import Batch
from indexer.embedding.pools import plan_dispatcher
from indexer.errors import ModelMismatchError, PoolError
from indexer.plan import Model, Plan, Unit

MODEL = Model("f" * 64, "two", 2, normalized=False)
UNIT = Unit(0, 0, 0, 1000, 0)
POOL = Pool(MODEL, 1, max_text_bytes=100, max_batch_items=8, max_batch_bytes=800)
PLAN = Plan((), PlanConfig(), MODEL, (UNIT,))
FLOW = FlowConfig(retry_seconds=3.0, answer_seconds=0.3)

Answering = Callable[[int, Any], AsyncIterator[Any]]  # number of the stream from 0, its requests


def _good(request: Any) -> Any:
    """Answers a batch as a pool would: the vector of a text is its length and its first byte."""
    values = b"".join(struct.pack("<ff", len(text), text[0]) for text in request.texts)
    return pb.EmbedDocumentsResponse(
        batch_id=request.batch_id,
        items=[pb.DocumentStatus(token_count=3) for _ in request.texts],
        vectors=pb.Vectors(data=values, type=pb.VECTOR_TYPE_FLOAT32, dim=2, rows=len(request.texts)),
        model_fingerprint=MODEL.fingerprint,
    )


class _Server(pb_grpc.EmbeddingServiceServicer):
    def __init__(self, answering: Answering) -> None:
        self.answering = answering
        self.streams = 0
        self.fingerprint = MODEL.fingerprint

    async def GetModel(self, request: Any, context: Any) -> Any:  # noqa: N802 - the wire's name
        limits = pb.Limits(
            max_text_bytes=100, max_batch_items=8, max_batch_bytes=800, max_stream_bytes_in_flight=1000
        )
        return pb.GetModelResponse(fingerprint=self.fingerprint, dim=2, limits=limits, processes=1)

    async def EmbedDocuments(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        self.streams += 1
        async for answer in self.answering(self.streams - 1, request):
            if isinstance(answer, status_pb2.Status):
                await context.abort_with_status(rpc_status.to_status(answer))
            yield answer


def _batches(count: int) -> list[Batch]:
    return [
        Batch(
            number=n,
            unit=UNIT,
            rows=[2 * n, 2 * n + 1],
            doc_ids=[f"d{2 * n}", f"d{2 * n + 1}"],
            hashes=[b"h" * 16] * 2,
            texts=[b"a" * (n + 1), b"b"],
            bytes=n + 2,
        )
        for n in range(count)
    ]


def _run(
    answering: Answering, count: int = 10, flow: FlowConfig = FLOW, plan: Plan = PLAN, **served: str
) -> tuple[dict[int, Answer], Any, list[str]]:
    """Sends batches to a server that answers so; returns the answers, the server and the log."""
    answers: dict[int, Answer] = {}
    log: list[str] = []
    servicer = _Server(answering)
    vars(servicer).update(served)

    async def main() -> None:
        server = grpc.aio.server()
        pb_grpc.add_EmbeddingServiceServicer_to_server(servicer, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        done = asyncio.Event()

        def take(batch: Batch, answer: Answer) -> None:
            assert batch.number not in answers, "answered twice"
            answers[batch.number] = answer
            if len(answers) == count:
                done.set()

        dispatcher = plan_dispatcher(plan, {f"127.0.0.1:{port}": POOL}, Access(), flow, take, log.append)

        async def feed() -> None:
            for batch in _batches(count):
                await dispatcher.put(batch)
            await done.wait()

        try:
            await asyncio.wait_for(race(dispatcher.run(), feed()), 30)
        finally:
            await server.stop(None)

    asyncio.run(main())
    return answers, servicer, log


def _check(answers: dict[int, Answer], count: int = 10) -> None:
    assert sorted(answers) == list(range(count))
    for number, answer in answers.items():
        assert answer.vectors.tolist() == [[number + 1, ord("a")], [1, ord("b")]]


def test_answers_may_come_in_any_order() -> None:
    """Each batch gets its own answer, whichever comes first."""

    async def backwards(stream: int, requests: Any) -> AsyncIterator[Any]:
        held = []
        async for request in requests:
            if not request.batch_id:
                yield _good(request)
                continue
            held.append(request)
            if len(held) == 2:
                for one in reversed(held):
                    yield _good(one)
                held.clear()

    _check(_run(backwards, count=11)[0], count=11)


def test_what_was_not_answered_is_sent_again() -> None:
    """A stream that breaks after three answers: the others are asked for once more, on a new stream."""

    async def breaking(stream: int, requests: Any) -> AsyncIterator[Any]:
        answered = 0
        async for request in requests:
            if stream < 2 and answered == 3:
                yield status_pb2.Status(code=code_pb2.UNAVAILABLE, message="draining")
            answered += 1
            yield _good(request)

    answers, server, log = _run(breaking)
    _check(answers)
    assert server.streams == 3
    assert "trying again for up to 3 s" in log[0]
    assert "is back" in log[1]


def test_a_silent_pool_is_left_and_asked_again() -> None:
    """A pool that owes answers and says nothing is connected to anew."""

    async def silent(stream: int, requests: Any) -> AsyncIterator[Any]:
        async for request in requests:
            if stream or request.batch_id < 4:
                yield _good(request)

    answers, server, log = _run(silent)
    _check(answers)
    assert server.streams == 2
    assert "was silent for 0.3 s" in log[0]


def test_an_overloaded_pool_is_given_the_time_it_asks_for() -> None:
    """RESOURCE_EXHAUSTED waits as long as its RetryInfo says, at the latest when it is said again."""
    detail = any_pb2.Any()
    detail.Pack(error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=1)))
    came: list[float] = []

    async def full(stream: int, requests: Any) -> AsyncIterator[Any]:
        came.append(asyncio.get_running_loop().time())
        if stream < 2:
            yield status_pb2.Status(code=code_pb2.RESOURCE_EXHAUSTED, message="full", details=[detail])
        async for request in requests:
            yield _good(request)

    _check(_run(full)[0])
    assert came[2] - came[1] >= 1.0


def test_a_text_that_is_postponed_is_sent_again_and_at_last_refused() -> None:
    """A live pool that puts a text off gets it again a few times; then the text counts as refused."""

    async def postponing(stream: int, requests: Any) -> AsyncIterator[Any]:
        async for request in requests:
            answer = _good(request)
            if request.batch_id == 2:
                answer.items[0].CopyFrom(pb.DocumentStatus(code=code_pb2.ABORTED, message="later"))
                answer.vectors.CopyFrom(
                    pb.Vectors(data=answer.vectors.data[8:], type=pb.VECTOR_TYPE_FLOAT32, dim=2, rows=1)
                )
            yield answer

    answers, server, _ = _run(postponing, flow=replace(FLOW, retry_seconds=60.0))
    assert server.streams == 5
    assert sorted(answers) == list(range(10))
    assert [str(failure) for failure in answers[2].failures] == ["ABORTED: later"]
    assert answers[2].vectors.tolist() == [[1, ord("b")]]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda answer: answer.items.pop(), "gave 2 vectors for 1 texts"),
        (lambda answer: answer.vectors.ClearField("data"), "sent 0 bytes for 2 × 2 values"),
        (lambda answer: setattr(answer, "batch_id", 77), "answered batch 77, which it was not sent"),
        (lambda answer: setattr(answer, "model_fingerprint", "0" * 64), "serves model 000000000000"),
        (
            lambda answer: answer.vectors.CopyFrom(
                pb.Vectors(data=bytes(8), type=pb.VECTOR_TYPE_FLOAT32, dim=1, rows=2)
            ),
            "sent vectors of 1 values, wanted 2",
        ),
        (lambda answer: answer.vectors.ClearField("type"), "values of type 0"),
    ],
)
def test_an_answer_that_does_not_fit_ends_the_run(change: Callable[[Any], None], words: str) -> None:
    """Nothing is guessed from a wrong answer: it is an error that says what was wrong with it."""

    async def wrong(stream: int, requests: Any) -> AsyncIterator[Any]:
        async for request in requests:
            answer = _good(request)
            change(answer)
            yield answer

    with pytest.raises(PoolError, match=words):
        _run(wrong)


def test_a_refused_stream_ends_the_run() -> None:
    """A status that waiting cannot mend is told at once, with the pool's words."""

    async def refusing(stream: int, requests: Any) -> AsyncIterator[Any]:
        yield status_pb2.Status(code=code_pb2.INVALID_ARGUMENT, message="text 3 is too large")

    with pytest.raises(PoolError, match="refused: INVALID_ARGUMENT: text 3 is too large"):
        _run(refusing)


def test_a_pool_that_comes_back_with_another_model_is_refused() -> None:
    """The model is compared before a text is sent."""

    async def never(stream: int, requests: Any) -> AsyncIterator[Any]:
        raise AssertionError("a text was sent")
        yield

    with pytest.raises(
        ModelMismatchError, match=r"serves model 000000000000, the index holds two \(ffffffffffff\)"
    ):
        _run(never, fingerprint="0" * 64)


CHUNKED = replace(PLAN, config=PlanConfig(chunk_tokens=16, chunk_overlap=4))


def test_chunks_keep_vectors_of_their_own() -> None:
    """A plan with chunks asks for them, and each text gets the vectors of its windows and where they lie."""
    asked = []

    async def cutting(stream: int, requests: Any) -> AsyncIterator[Any]:
        async for request in requests:
            if request.HasField("options"):
                asked.append(request.options.chunking)
            items = [
                pb.DocumentStatus(
                    token_count=9,
                    windows=2,
                    window_starts=[0, 3],
                    window_stops=[5, 8],
                    window_token_counts=[7, 6],
                ),
                pb.DocumentStatus(
                    token_count=3, windows=1, window_starts=[0], window_stops=[1], window_token_counts=[3]
                ),
            ]
            values = struct.pack("<6f", *range(6))
            vectors = pb.Vectors(data=values, type=pb.VECTOR_TYPE_FLOAT32, dim=2, rows=3)
            yield pb.EmbedDocumentsResponse(
                batch_id=request.batch_id,
                items=items,
                vectors=vectors,
                model_fingerprint=MODEL.fingerprint,
            )

    answers, _, _ = _run(cutting, count=3, plan=CHUNKED)
    assert [(one.window_tokens, one.overlap_tokens, one.separate) for one in asked] == [(16, 4, True)]
    for answer in answers.values():
        assert answer.vectors.tolist() == [[0, 1], [2, 3], [4, 5]]
        assert answer.rows_each.tolist() == [2, 1]
        assert answer.spans is not None
        assert answer.spans.starts.tolist() == [0, 3, 0]
        assert answer.spans.stops.tolist() == [5, 8, 1]
        assert answer.spans.token_counts.tolist() == [7, 6, 3]


def test_a_pool_that_knows_no_chunks_is_refused() -> None:
    """A release that makes one vector of all windows is an error that says so, not a wrong index."""

    async def old(stream: int, requests: Any) -> AsyncIterator[Any]:
        async for request in requests:
            answer = _good(request)
            for item in answer.items:
                item.windows = 3
            yield answer

    with pytest.raises(
        PoolError, match=r"does not give each chunk of a text a vector .*start a worker of this"
    ):
        _run(old, plan=CHUNKED)
