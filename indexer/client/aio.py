"""The client for asyncio; the one for threads runs it in a loop of its own."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from types import TracebackType
from typing import TypeVar, Unpack

from indexer.client.answers import Document, Embeddings, Pool, joined
from indexer.client.calls import Caller
from indexer.client.channel import Connection, new_request_id
from indexer.client.configuration import ClientConfig, ClientSettings, TextOptions, options_of
from indexer.client.cutting import Cutter
from indexer.client.directory import Directory
from indexer.client.documents import DocumentJob
from indexer.client.members import Members, Target
from indexer.client.settings import Options
from indexer.client.statistics import Statistics
from indexer.errors import AwayError, ConfigError

TIMEOUT_SECONDS = 30.0  # of a call, over all its attempts; arbitrary, a query takes well below a second

T = TypeVar("T")


class AsyncClient:
    """Embeds texts with one pool or several that serve the same model; an asynchronous context manager.

    Use it in the loop that it was entered in. All settings and methods are those of `Client`, which says
    more about them.

    Example:
        >>> import asyncio
        >>> from indexer.client import AsyncClient
        >>> async def main():
        ...     async with AsyncClient("127.0.0.1:50051") as client:
        ...         found = await client.embed_query(["sort a list"])
        ...         async for document in client.embed_documents(["a text", "another"]):
        ...             print(document.index, document.ok)
        >>> asyncio.run(main())  # doctest: +SKIP
    """

    def __init__(self, targets: str | Sequence[str], **settings: Unpack[ClientSettings]) -> None:
        self._config = ClientConfig.of(**settings)
        self._directory = Directory(targets, self._config.names, self._config.log)
        self._access = self._config.access
        self._members_or_none: Members | None = None
        for target in self._directory.targets:
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
            config = self._config
            self._members_or_none = Members(
                self._directory, self._access, config.retry, config.fingerprint, mixed=config.mixed_models
            )
            self._caller = Caller(self._members_or_none, config.retry, config.hedge)

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
        _ = self._members  # raises where the client is not open

        async def ask(connection: Connection, seconds: float, request_id: str) -> Pool:
            return await connection.model(seconds, request_id)

        return await self._caller.call(ask, timeout)

    async def embed_query(
        self,
        texts: str | Sequence[str],
        *,
        timeout: float = TIMEOUT_SECONDS,
        request_id: str = "",
        **words: Unpack[TextOptions],
    ) -> Embeddings:
        """Embeds a few texts before all bulk work; see `Client.embed_query`."""
        options = options_of(**words)
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
        members = self._members

        async def ask(connection: Connection, seconds: float, request_id: str) -> Embeddings:
            answer = await connection.embed_query(texts, options, seconds, request_id)
            members.agreement.check(connection.target, answer.fingerprint)
            return answer

        return await self._caller.call(ask, seconds, request_id, size=1 + sum(map(len, texts)))

    async def embed_documents(
        self,
        texts: Iterable[str | bytes] | AsyncIterable[str | bytes],
        *,
        timeout: float | None = None,
        **words: Unpack[TextOptions],
    ) -> AsyncIterator[Document]:
        """Embeds many texts as bulk work, in the order of the input; see `Client.embed_documents`."""
        options = options_of(**words)
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
        flow = self._config.flow
        seconds = flow.connect_seconds if timeout is None else min(timeout, flow.connect_seconds)
        pool = await self.model(timeout=seconds)
        return DocumentJob(self._members, pool, options, flow, self._config.log)

    async def statistics(self, *, timeout: float = TIMEOUT_SECONDS) -> Mapping[str, Statistics]:
        """Returns what each pool counted, by address; see `Client.statistics`."""
        request_id = new_request_id()
        await self._members.settle(asyncio.get_running_loop().time() + timeout)
        targets = self._members.balancer.members
        connections = [self._members.links.connect(target) for target in targets]
        found = await asyncio.gather(
            *(one.statistics(timeout, request_id) for one in connections), return_exceptions=True
        )
        counted = {}
        for target, one in zip(targets, found, strict=True):
            if isinstance(one, Statistics):
                counted[target] = one
            elif not isinstance(one, AwayError):
                raise one
        if not counted:
            away = [str(error) for error in found] or [str(self._directory.errors)]
            raise AwayError(f"no pool answers: {'; '.join(away)}")
        return counted

    @property
    def _members(self) -> Members:
        if self._members_or_none is None:
            raise ConfigError("the client is not open; use it as a context manager")
        return self._members_or_none


async def _each(texts: Iterable[T] | AsyncIterable[T]) -> AsyncIterator[T]:
    if isinstance(texts, AsyncIterable):
        async for text in texts:
            yield text
    else:
        for text in texts:
            yield text
