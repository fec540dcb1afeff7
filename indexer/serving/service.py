"""The calls of the search service: pools embed texts, threads of this process search vectors.

Guarantees: an accepted call is answered by one generation of the index, with a result or a status, also while
the server drains or the index changes; no more calls are accepted than the limits say, and no more cores
compute than there are threads. Assumes one event loop.
"""

import asyncio
import logging
import platform
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from embedpool.v1 import search_service_pb2 as pb
from embedpool.v1 import search_service_pb2_grpc
from indexer.errors import DrainError, InputError, ModelMismatchError, OverloadError
from indexer.index.faiss_index import one_thread
from indexer.index.machine import usable_cpus
from indexer.search.following import Following
from indexer.search.hits import Ask
from indexer.search.snapshot import Found, Snapshot
from indexer.serving.calls import Context, request_id
from indexer.serving.config import Limits
from indexer.serving.pools import Pools
from indexer.serving.wire import ask_of, index_of, response_of, texts_of, vectors_of

_log = logging.getLogger(__name__)

NAME: Final = pb.DESCRIPTOR.services_by_name["SearchService"].full_name

_RETRY_SECONDS = 0.1  # after which a refused call may be sent again; arbitrary, a search takes milliseconds
# Share of the caller's time that the pool may take: the rest is for the search, and to say that it was away.
_EMBED_SHARE = 0.8
_PACKAGES = ("embedpool", "faiss-cpu", "grpcio", "numpy", "protobuf", "pyarrow")


class SearchService(search_service_pb2_grpc.SearchServiceServicer):
    """Searches one index.

    Args:
        following: The index.
        pools: Who embeds texts.
        limits: How much at once.
    """

    def __init__(self, following: Following, pools: Pools, limits: Limits) -> None:
        self._following, self._pools, self._limits = following, pools, limits
        self._threads = ThreadPoolExecutor(limits.threads or usable_cpus(), thread_name_prefix="search")
        self._versions = {name: version(name) for name in _PACKAGES} | {"python": platform.python_version()}
        self._active = 0
        self._draining = False
        self._done = asyncio.Event()
        self._done.set()

    def add_to(self, server: Any) -> None:
        """Has a gRPC server answer the calls."""
        search_service_pb2_grpc.add_SearchServiceServicer_to_server(self, server)

    async def drain(self, seconds: float) -> int:
        """Refuses new calls and waits for accepted ones; returns how many were not done in time."""
        self._draining = True
        try:
            await asyncio.wait_for(self._done.wait(), seconds)
        except TimeoutError:
            return self._active
        return 0

    def close(self) -> None:
        """Ends the threads, after the searches that compute."""
        self._threads.shutdown(cancel_futures=True)

    async def Search(self, request: pb.SearchRequest, context: Context) -> pb.SearchResponse:  # noqa: N802
        """Finds the documents nearest to each query."""
        with self._admitted():
            ask, texts = ask_of(request, self._limits), texts_of(request, self._limits)
            if not texts:
                vectors = vectors_of(request.vectors)
                snapshot, found = await self._compute(
                    lambda snapshot: (snapshot, snapshot.find(vectors, ask))
                )
                return response_of(found, snapshot, 0.0)
            began = time.perf_counter()
            model = self._following.snapshot.plan.model
            embedded = await self._pools.embed(model, texts, self._seconds(context), request_id(context))
            seconds = time.perf_counter() - began
            snapshot, found = await self._compute(_finder(embedded, model.fingerprint, ask))
            return response_of(found, snapshot, seconds)

    async def GetIndex(self, request: pb.GetIndexRequest, context: Context) -> pb.GetIndexResponse:  # noqa: N802
        """Tells which index is served."""
        snapshot = self._following.snapshot
        columns = await asyncio.to_thread(_columns, snapshot)
        return index_of(snapshot, columns, self._versions, self._limits)

    async def _compute(self, find: Callable[[Snapshot], tuple[Snapshot, Found]]) -> tuple[Snapshot, Found]:
        """Finds in a thread of its own, on one core."""

        def on_one_core() -> tuple[Snapshot, Found]:
            with one_thread():
                return self._following.search(find)

        return await asyncio.get_running_loop().run_in_executor(self._threads, on_one_core)

    def _seconds(self, context: Context) -> float:
        left = context.time_remaining()
        return min(
            self._limits.pool_seconds, self._limits.pool_seconds if left is None else left * _EMBED_SHARE
        )

    @contextmanager
    def _admitted(self) -> Iterator[None]:
        if self._draining:
            raise DrainError("the server drains; send what follows to another one")
        if self._active >= self._limits.max_concurrent:
            raise OverloadError(
                f"{self._active} searches are under way, the limit max_concurrent is "
                f"{self._limits.max_concurrent}; try again later",
                _RETRY_SECONDS,
            )
        self._active += 1
        self._done.clear()
        try:
            yield
        finally:
            self._active -= 1
            if not self._active:
                self._done.set()


def _columns(snapshot: Snapshot) -> list[str]:
    """Returns the columns of the inputs; none where an input is gone, which ends only calls for columns."""
    try:
        return snapshot.contents.columns.names
    except InputError as error:
        _log.warning("no columns why=%r", str(error))
        return []


def _finder(
    vectors: NDArray[np.float32], fingerprint: str, ask: Ask
) -> Callable[[Snapshot], tuple[Snapshot, Found]]:
    def find(snapshot: Snapshot) -> tuple[Snapshot, Found]:
        if snapshot.fingerprint != fingerprint:
            raise ModelMismatchError("the index was given another model at this very moment; ask again")
        return snapshot, snapshot.find(vectors, ask)

    return find
