"""The client for asyncio; the one for threads runs it in a loop of its own."""

import asyncio
import random
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from indexer.client.answers import Document, Embeddings, Pool, joined
from indexer.client.channel import Connection, new_request_id
from indexer.client.documents import Cutter, DocumentJob
from indexer.client.members import Members, Target
from indexer.client.retry import RetryBudget, full_jitter
from indexer.client.settings import Access, Chunking, Options, RetryConfig, TlsConfig, VectorType
from indexer.client.statistics import Statistics
from indexer.client.status import CALL, Meaning, Status
from indexer.config import FlowConfig
from indexer.errors import AwayError, ConfigError, ModelMismatchError

TIMEOUT_SECONDS = 30.0  # of a call, over all its attempts; arbitrary, a query takes well below a second

T = TypeVar("T")


class AsyncClient:
    """Embeds texts with one pool or several that serve the same model; an asynchronous context manager.

    Use it in the loop that it was entered in. All settings and methods are those of `Client`, which says
    more about them.

    Example:
        >>> import asyncio
        >>> async def main():
        ...     async with AsyncClient("127.0.0.1:50051") as client:
        ...         found = await client.embed_query(["sort a list"])
        ...         async for document in client.embed_documents(["a text", "another"]):
        ...             print(document.index, document.ok)
        >>> asyncio.run(main())  # doctest: +SKIP
    """

    def __init__(
        self,
        targets: str | Sequence[str],
        *,
        tls: TlsConfig | None = None,
        token: str | Path | None = None,
        plaintext_token: bool = False,
        retry: RetryConfig | None = None,
        flow: FlowConfig | None = None,
        fingerprint: str = "",
        mixed_models: bool = False,
        log: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._targets = _addresses(targets)
        self._access = Access(tls, token, plaintext_token)
        self._retry = retry or RetryConfig()
        self._flow = flow or FlowConfig(bytes_in_flight=8 << 20)
        self._fingerprint = fingerprint
        self._mixed = mixed_models
        self._log = log
        self._members_or_none: Members | None = None
        for target in self._targets:
            self._access.check(target)
        self._access.read_token()

    async def __aenter__(self) -> "AsyncClient":
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def open(self) -> None:
        """Makes the connections; no pool is asked yet. Raises ConfigError."""
        if self._members_or_none is None:
            self._members_or_none = Members(
                self._targets, self._access, self._retry, self._fingerprint, mixed=self._mixed
            )
            self._budget = RetryBudget(self._retry, asyncio.get_running_loop().time())

    async def close(self) -> None:
        """Ends the connections and every call on them."""
        if self._members_or_none is not None:
            await self._members_or_none.close()
            self._members_or_none = None

    @property
    def targets(self) -> tuple[Target, ...]:
        """How each pool stands."""
        return self._members.targets()

    async def model(self, *, timeout: float = TIMEOUT_SECONDS) -> Pool:
        """Returns what the pools serve, and the limits of one of them."""
        return await self._call(lambda connection, seconds, _: connection.model(seconds), timeout)

    async def embed_query(
        self,
        texts: str | Sequence[str],
        *,
        dimensions: int = 0,
        prompt_name: str | None = None,
        vector_type: VectorType | str = VectorType.FLOAT32,
        chunking: Chunking | None = None,
        reject_long: bool = False,
        timeout: float = TIMEOUT_SECONDS,
        request_id: str = "",
    ) -> Embeddings:
        """Embeds a few texts before all bulk work; see `Client.embed_query`."""
        options = Options(VectorType(vector_type), dimensions, prompt_name, reject_long, chunking)
        wanted = [texts] if isinstance(texts, str) else list(texts)
        if not wanted:
            raise ConfigError("no text to embed; give at least one")
        deadline = asyncio.get_running_loop().time() + timeout
        await self._members.pick(deadline)  # its description says how many texts a call may have
        size = min(pool.max_query_texts for pool in self._members.pools.values())
        parts = []
        for start in range(0, len(wanted), size):
            some = wanted[start : start + size]
            left = deadline - asyncio.get_running_loop().time()
            parts.append(await self._embed_some(some, options, left, request_id))
        return joined(parts)

    async def _embed_some(
        self, texts: Sequence[str], options: Options, seconds: float, request_id: str
    ) -> Embeddings:
        async def ask(connection: Connection, seconds: float, request_id: str) -> Embeddings:
            answer = await connection.embed_query(texts, options, seconds, request_id)
            self._members.check_model(connection.target, answer.fingerprint)
            return answer

        return await self._call(ask, seconds, request_id)

    async def embed_documents(
        self,
        texts: Iterable[str | bytes] | AsyncIterable[str | bytes],
        *,
        dimensions: int = 0,
        prompt_name: str | None = None,
        vector_type: VectorType | str = VectorType.FLOAT32,
        chunking: Chunking | None = None,
        reject_long: bool = False,
        timeout: float | None = None,
    ) -> AsyncIterator[Document]:
        """Embeds many texts as bulk work, in the order of the input; see `Client.embed_documents`."""
        options = Options(VectorType(vector_type), dimensions, prompt_name, reject_long, chunking)
        deadline = None if timeout is None else asyncio.get_running_loop().time() + timeout
        job = await self.start_job(options, timeout)
        try:
            cutter = Cutter(job.rule)
            async for text in _each(texts):
                if (batch := cutter.add(text)) is not None:
                    await job.submit(batch)
                    while job.ready or not job.room:
                        for document in await job.take(deadline):
                            yield document
            if (batch := cutter.rest()) is not None:
                await job.submit(batch)
            while job.pending:
                for document in await job.take(deadline):
                    yield document
        finally:
            await job.close()

    async def start_job(self, options: Options, timeout: float | None) -> DocumentJob:
        """Returns the machinery of `embed_documents`, for who reads the input in another way."""
        seconds = self._flow.connect_seconds if timeout is None else min(timeout, self._flow.connect_seconds)
        pool = await self.model(timeout=seconds)
        return DocumentJob(self._members, pool, options, self._flow, self._log)

    async def statistics(self, *, timeout: float = TIMEOUT_SECONDS) -> Mapping[str, Statistics]:
        """Returns what each pool counted, by address; see `Client.statistics`."""
        request_id = new_request_id()
        connections = [self._members.connection(target) for target in self._targets]
        found = await asyncio.gather(
            *(one.statistics(timeout, request_id) for one in connections), return_exceptions=True
        )
        counted = {}
        for target, one in zip(self._targets, found, strict=True):
            if isinstance(one, Statistics):
                counted[target] = one
            elif not isinstance(one, AwayError):
                raise one
        if not counted:
            raise next(error for error in found if isinstance(error, AwayError))
        return counted

    async def _call(
        self,
        ask: Callable[[Connection, float, str], Awaitable[T]],
        timeout: float,
        request_id: str = "",
    ) -> T:
        """Asks one pool after the other until one answers, within one deadline and the retry budget."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + timeout
        request_id = request_id or new_request_id()
        tried: list[str] = []
        self._budget.earn(clock())
        while True:
            connection = await self._members.pick(deadline, tried)
            seconds = min(max(0.001, deadline - clock()), self._retry.attempt)
            try:
                return await self._attempt(connection, ask, seconds, request_id)
            except AwayError as error:
                tried.append(connection.target)
                pause = self._pause(error, tried)
                if clock() + pause >= deadline:
                    raise
                if not self._budget.take(clock()):
                    raise AwayError(
                        f"{error}; not tried again: too many calls of this client fail",
                        error.retry_after,
                        error.code,
                        request_id,
                    ) from error
            await asyncio.sleep(pause)

    async def _attempt(
        self,
        connection: Connection,
        ask: Callable[[Connection, float, str], Awaitable[T]],
        seconds: float,
        request_id: str,
    ) -> T:
        members, target = self._members, connection.target
        members.balancer.began(target)
        try:
            answer = await ask(connection, seconds, request_id)
        except AwayError as error:
            if CALL.get(Status(error.code)) is Meaning.BUSY:
                members.balancer.busy(target, asyncio.get_running_loop().time(), error.retry_after)
            elif error.code != Status.DEADLINE_EXCEEDED or seconds >= self._retry.attempt:
                # A caller with little time says nothing about the pool.
                members.failed(target, error)
            raise
        except ModelMismatchError as error:
            # It took another model over since it was asked; the others may still serve the right one.
            away = AwayError(str(error), code=Status.FAILED_PRECONDITION)
            members.failed(target, away)
            raise away from error
        finally:
            members.balancer.ended(target)
        members.balancer.answered(target)
        return answer

    def _pause(self, error: AwayError, tried: Sequence[str]) -> float:
        """Returns seconds to wait before the next attempt: none while there is a pool not tried yet."""
        if any(target.up and target.address not in tried for target in self._members.targets()):
            return 0.0
        jitter = random.random()  # noqa: S311 - spreads load, keeps no secret
        rounds = 1 + len(tried) // len(self._targets)
        return error.retry_after + full_jitter(self._retry, rounds, jitter)

    @property
    def _members(self) -> Members:
        if self._members_or_none is None:
            raise ConfigError("the client is not open; use it as a context manager")
        return self._members_or_none


def _addresses(targets: str | Sequence[str]) -> list[str]:
    """Returns the addresses, each once; raises ConfigError for none."""
    parts = targets.split(",") if isinstance(targets, str) else targets
    found = list(dict.fromkeys(part.strip() for part in parts if part.strip()))
    if not found:
        raise ConfigError(f"targets '{targets}' name no address; give HOST:PORT or unix:PATH")
    return found


async def _each(texts: Iterable[T] | AsyncIterable[T]) -> AsyncIterator[T]:
    if isinstance(texts, AsyncIterable):
        async for text in texts:
            yield text
    else:
        for text in texts:
            yield text
