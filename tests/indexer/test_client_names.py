"""Names that change, hang and fail, and pools that are late or turn away, over real sockets.

The servers are the test's own, since no real pool can be made to behave so; `test_many_pools` has real ones.
"""

import asyncio
import struct
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import grpc
import pytest

from embedpool.v1 import embedding_service_pb2 as pb
from embedpool.v1 import embedding_service_pb2_grpc as pb_grpc
from indexer.client import Access, AsyncClient, HedgeConfig, NameConfig, Pool, RetryConfig
from indexer.client.answers import Answer
from indexer.client.flow import race
from indexer.client.survey import survey
from indexer.config import FlowConfig, PlanConfig
from indexer.documents import Batch
from indexer.embedding.pools import plan_dispatcher
from indexer.errors import AwayError, GaveUpError, ModelMismatchError, PoolError
from indexer.plan import Model, Plan, Unit

MODEL = Model("f" * 64, "two", 2, normalized=False)
UNIT = Unit(0, 0, 0, 10_000, 0)
PLAN = Plan((), PlanConfig(), MODEL, (UNIT,))
POOL = Pool(MODEL, 1, max_text_bytes=100, max_batch_items=8, max_batch_bytes=800, max_windows=4)
FLOW = FlowConfig(retry_seconds=1.0)
NAME = "dns:///pool.test:1"
WAIT_SECONDS = 30.0


class _Server(pb_grpc.EmbeddingServiceServicer):
    """Answers as a pool would, until it is told otherwise.

    Attributes:
        fingerprint: Model that it serves.
        windows, items: Its limits of them.
        refusal: Status of every stream and query from now on.
        open: Cleared, every query waits.
        held: Cleared, answers to batches wait.
        queries, batches: Answered ones.
        asked: How often it described itself.
        streams: How many were opened.
    """

    def __init__(self) -> None:
        self.fingerprint, self.windows, self.items = MODEL.fingerprint, 4, 8
        self.refusal: grpc.StatusCode | None = None
        self.open, self.held = asyncio.Event(), asyncio.Event()
        self.open.set()
        self.held.set()
        self.queries = self.batches = self.streams = self.asked = 0
        self.address = ""

    async def GetModel(self, request: Any, context: Any) -> Any:  # noqa: N802 - the wire's name
        self.asked += 1
        limits = pb.Limits(
            max_text_bytes=100, max_batch_items=self.items, max_batch_bytes=800, max_windows=self.windows
        )
        return pb.GetModelResponse(fingerprint=self.fingerprint, dim=2, limits=limits, processes=1)

    async def EmbedQuery(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self.open.wait()
        if self.refusal is not None:
            await context.abort(self.refusal, "refused")
        self.queries += 1
        return pb.EmbedQueryResponse(
            vectors=_vectors([text.encode() for text in request.texts]),
            token_counts=[3] * len(request.texts),
            truncated=[False] * len(request.texts),
            model_fingerprint=self.fingerprint,
        )

    async def EmbedDocuments(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        self.streams += 1
        async for one in request:
            if self.refusal is not None:
                await context.abort(self.refusal, "refused")
            await self.held.wait()
            self.batches += 1
            yield pb.EmbedDocumentsResponse(
                batch_id=one.batch_id,
                items=[pb.DocumentStatus(token_count=3) for _ in one.texts],
                vectors=_vectors(one.texts),
                model_fingerprint=self.fingerprint,
            )


def _vectors(texts: Any) -> Any:
    values = b"".join(struct.pack("<ff", len(text), text[0]) for text in texts)
    return pb.Vectors(data=values, type=pb.VECTOR_TYPE_FLOAT32, dim=2, rows=len(texts))


@asynccontextmanager
async def _serving(count: int) -> AsyncIterator[list[_Server]]:
    servers, servicers = [], []
    for number in range(count):
        servicer, server = _Server(), grpc.aio.server()
        pb_grpc.add_EmbeddingServiceServicer_to_server(servicer, server)
        host = f"127.0.0.{number + 1}"
        servicer.address = f"{host}:{server.add_insecure_port(f'{host}:0')}"
        await server.start()
        servers.append(server)
        servicers.append(servicer)
    try:
        yield servicers
    finally:
        await asyncio.gather(*(server.stop(None) for server in servers))


async def _until(done: Callable[[], bool]) -> None:
    """Waits until something is so; what it looks at changes with calls of other tasks."""
    async with asyncio.timeout(WAIT_SECONDS):
        while not done():
            await asyncio.sleep(0.01)


def _names(resolve: Callable[[str, int], list[str]], lookup_seconds: float = 5.0) -> NameConfig:
    return NameConfig(refresh_seconds=0.05, lookup_seconds=lookup_seconds, resolve=resolve)


async def _targets(client: AsyncClient, count: int = 40) -> set[str]:
    return {(await client.embed_query("abc")).target for _ in range(count)}


def test_members_follow_a_name() -> None:
    """Who joins gets calls, who leaves gets none; a failure, an empty answer and doubles change nothing."""

    async def main() -> None:
        log: list[str] = []
        async with _serving(3) as (one, two, three):
            answer: list[list[str] | OSError] = [[one.address, one.address]]

            def resolve(host: str, port: int) -> list[str]:
                assert (host, port) == ("pool.test", 1)
                if isinstance(answer[0], OSError):
                    raise answer[0]
                return answer[0]

            async with AsyncClient([NAME, three.address], names=_names(resolve), log=log.append) as client:
                assert await _targets(client) == {one.address, three.address}
                answer[0] = [two.address, three.address]  # also there by its own address: one member
                await _until(
                    lambda: [target.address for target in client.targets if target.up].count(two.address) == 1
                )
                assert await _targets(client) == {two.address, three.address}
                assert len(client.targets) == 2
                answer[0] = OSError(2, "Name or service not known")
                await _until(lambda: any("cannot be looked up: Name or" in line for line in log))
                assert await _targets(client) == {two.address, three.address}
                answer[0] = []
                await _until(lambda: any("it has no address; its 2 pools are kept" in line for line in log))
                assert await _targets(client) == {two.address, three.address}
            assert sum("cannot be looked up" in line for line in log) == 1, "said once, not at each look"

    asyncio.run(main())


def test_a_resolver_that_hangs_stops_nobody() -> None:
    """Calls go on to the pools that are known, and the process would end; another name works meanwhile."""

    async def main() -> None:
        hanging, let_go = threading.Event(), threading.Event()
        async with _serving(2) as (one, two):

            def resolve(host: str, port: int) -> list[str]:
                if host == "hangs.test":
                    hanging.set()
                    let_go.wait(WAIT_SECONDS)
                    return [two.address]
                return [one.address]

            names = _names(resolve, lookup_seconds=0.1)
            async with AsyncClient([NAME, "dns:hangs.test:1"], names=names) as client:
                assert await _targets(client) == {one.address}
                assert hanging.is_set()
                (failed,) = [target for target in client.targets if not target.up]
                assert failed.address == "dns:hangs.test:1"
                assert "the resolver has not answered for 0.1 s" in failed.error
                let_go.set()
                await _until(lambda: sum(target.up for target in client.targets) == 2)

    asyncio.run(main())


def test_a_name_without_pools_is_told() -> None:
    """An error in time that says what the resolver said, from calls, bulk work and a survey."""

    def resolve(host: str, port: int) -> list[str]:
        raise OSError(-2, "Name or service not known")

    async def main() -> None:
        async with AsyncClient(NAME, names=_names(resolve)) as client:
            for call in (client.embed_query("abc", timeout=0.3), client.statistics(timeout=0.3)):
                with pytest.raises(AwayError, match=r"pool.test:1.*Name or service not known"):
                    await call
        with pytest.raises(GaveUpError, match="Name or service not known"):
            await _embed([], {NAME: POOL}, names=_names(resolve))

    asyncio.run(main())
    (found,) = survey([NAME], Access(), 0.2, _names(resolve))
    assert "Name or service not known" in found.unresolved
    assert not found.pools


def test_a_call_outlives_the_membership_of_its_pool() -> None:
    """A pool leaves while it computes: its answer still comes, and then its connection ends."""

    async def main() -> None:
        async with _serving(2) as (one, two):
            answer = [one.address]
            async with AsyncClient(NAME, names=_names(lambda host, port: list(answer))) as client:
                await client.embed_query("abc")
                one.open.clear()
                call = asyncio.create_task(client.embed_query("abc"))
                await _until(lambda: client.targets[0].in_flight == 1)
                answer[:] = [two.address]
                await _until(lambda: [target.address for target in client.targets] == [two.address])
                one.open.set()
                assert (await call).target == one.address
                assert await _targets(client) == {two.address}

    asyncio.run(main())


def test_a_late_query_is_asked_of_a_second_pool() -> None:
    """A pool that hangs costs a caller a short wait, and is left alone more and more; it comes back."""

    async def main() -> None:
        async with _serving(2) as (hung, well):
            addresses = [hung.address, well.address]
            hedge = HedgeConfig(first_delay=0.05)
            async with AsyncClient(addresses, hedge=hedge, retry=RetryConfig(attempt=20)) as client:
                assert await _targets(client) == set(addresses)
                hung.open.clear()
                async with asyncio.timeout(15):
                    assert await _targets(client, 60) == {well.address}
                hung.open.set()
                async with asyncio.timeout(WAIT_SECONDS):
                    while (await client.embed_query("abc")).target != hung.address:
                        await asyncio.sleep(0.01)
            hung.open.clear()
            none = HedgeConfig(first_delay=0.05, ratio=0.0, reserve=0.0)
            async with AsyncClient(addresses, hedge=none, retry=RetryConfig(attempt=0.5)) as client:
                before = well.queries
                answers = await asyncio.gather(*(client.embed_query("abc") for _ in range(8)))
                assert {answer.target for answer in answers} == {well.address}
                assert well.queries - before == 8
            hung.open.set()

    asyncio.run(main())


def _batches(count: int) -> list[Batch]:
    return [
        Batch(n, UNIT, [n], [f"d{n}"], [b"h" * 16], [b"a" * (n % 90 + 1)], n % 90 + 1) for n in range(count)
    ]


async def _embed(
    batches: list[Batch],
    pools: dict[str, Pool],
    plan: Plan = PLAN,
    on_answer: Callable[[int], None] = lambda _: None,
    names: NameConfig | None = None,
    meanwhile: Callable[[], Awaitable[None]] | None = None,
) -> tuple[dict[int, Answer], list[str]]:
    """Sends batches to pools and checks that each is answered once; returns the answers and the log."""
    answers: dict[int, Answer] = {}
    log: list[str] = []
    done = asyncio.Event()

    def take(batch: Batch, answer: Answer) -> None:
        assert batch.number not in answers, "answered twice"
        answers[batch.number] = answer
        assert answer.vectors.tolist() == [[len(batch.texts[0]), ord("a")]]
        on_answer(len(answers))
        if len(answers) == len(batches):
            done.set()

    dispatcher = plan_dispatcher(plan, pools, Access(), FLOW, take, log.append, names)

    async def feed() -> None:
        for batch in batches:
            await dispatcher.put(batch)
        if meanwhile is not None:
            await meanwhile()
        await done.wait()

    async with asyncio.timeout(WAIT_SECONDS):
        await race(dispatcher.run(), feed())
    assert sorted(answers) == list(range(len(batches)))
    return answers, log


def test_a_pool_that_leaves_in_the_middle_finishes_what_it_took() -> None:
    """Its batches in flight are answered by it, once; the next ones go to whoever joined."""

    async def main() -> None:
        async with _serving(2) as (one, two):
            answer = [one.address]
            before = 0

            async def roll() -> None:
                nonlocal before
                await _until(lambda: one.batches > 10)
                one.held.clear()
                before = one.batches
                answer[:] = [two.address]
                await _until(lambda: two.batches > 10)
                one.held.set()

            names = _names(lambda host, port: list(answer))
            _, log = await _embed(_batches(400), {NAME: POOL}, names=names, meanwhile=roll)
            assert one.batches + two.batches == 400, "none was computed twice"
            assert before < one.batches <= before + 5
            assert (one.streams, two.streams) == (1, 1)
            assert [line.rpartition(" ")[2] for line in log] == ["joins", "joins", "leaves"]

    asyncio.run(main())


@pytest.mark.parametrize("named", [False, True])
def test_a_pool_that_turns_away_is_set_aside(named: bool) -> None:
    """It takes another model over, or refuses: told once with the reason, and the others do all the work."""

    async def main() -> None:
        async with _serving(3) as servers:
            addresses = [server.address for server in servers]

            def change(answered: int) -> None:
                if answered == 20:
                    servers[0].fingerprint = "0" * 64
                    servers[1].refusal = grpc.StatusCode.PERMISSION_DENIED

            pools = {NAME: POOL} if named else dict.fromkeys(addresses, POOL)
            names = _names(lambda host, port: addresses)
            _, log = await _embed(_batches(300), pools, on_answer=change, names=names)
            aside = [line for line in log if "it is set aside, the other workers go on" in line]
            assert any("serves model 000000000000, the index holds two" in line for line in aside)
            assert len(aside) <= 2

    asyncio.run(main())


def test_the_work_ends_when_all_turn_away() -> None:
    """The first refusal is told; a request that is wrong in itself ends it at once, whoever else is there."""

    async def main() -> None:
        async with _serving(2) as servers:
            pools = dict.fromkeys((server.address for server in servers), POOL)
            for server in servers:
                server.fingerprint = "0" * 64
            with pytest.raises(ModelMismatchError, match="the index holds two"):
                await _embed(_batches(5), pools)
            for server in servers:
                server.fingerprint = MODEL.fingerprint
            servers[0].refusal = servers[1].refusal = grpc.StatusCode.INVALID_ARGUMENT
            with pytest.raises(PoolError, match="INVALID_ARGUMENT"):
                await _embed(_batches(5), {**pools, "127.0.0.1:1": POOL})

    asyncio.run(main())


def test_a_late_joiner_with_other_limits_is_refused() -> None:
    """Batches are not cut for it, or chunks would depend on who answers: it gets no text, and is named."""

    async def main() -> None:
        async with _serving(2) as (one, two):
            answer = [one.address]
            two.items = 4

            async def join() -> None:
                await _until(lambda: one.batches > 10)
                one.held.clear()
                answer.append(two.address)
                await _until(lambda: two.asked > 0)
                one.held.set()

            names = _names(lambda host, port: list(answer))
            _, log = await _embed(_batches(100), {NAME: POOL}, names=names, meanwhile=join)
            assert (one.batches, two.batches) == (100, 0)
            words = f"worker {two.address} takes at most 4 texts in a batch, those under way have up to 8"
            assert any(words in line for line in log)
            plan = replace(PLAN, config=PlanConfig(chunk_tokens=16))
            two.items, two.windows = 8, 9
            with pytest.raises(PoolError, match=r"different numbers of chunks .* 4, .* by now 9"):
                await _embed(_batches(1), {two.address: POOL}, plan)

    asyncio.run(main())
