"""The wire, seen from the indexer. The only file that imports gRPC.

`describe` and `embed_queries` are for one call at a time; `DocumentStream` is one connection of bulk work,
which `dispatch` opens anew as often as it must. What the server's statuses mean is one table, below.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Final

import grpc
import numpy as np
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from numpy.typing import NDArray

from embedpool.v1 import embedding_service_pb2 as pb
from embedpool.v1 import embedding_service_pb2_grpc as pb_grpc
from indexer.config import VectorType
from indexer.documents import Batch
from indexer.errors import AwayError, PoolError
from indexer.unit import Answer
from indexer.wire import Pool, answer_of, batch_request, matrix, pool_of

_RPC_SECONDS = 60.0  # deadline of a call that is not a stream; arbitrary, far above any query
_FIRST_DELAY_SECONDS = 0.1  # between attempts of a call; doubles up to the next constant
_LAST_DELAY_SECONDS = 2.0
# What the library says when a write meets the end of a stream; the server's own status is lost then.
_STATUS_LOST = "Internal error from Core"

# Statuses that waiting may mend. Any other one says that the request is wrong and stays wrong. INTERNAL and
# UNKNOWN of a whole call are mostly a connection that broke on the way.
_AWAY = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
    }
)
_CHANNEL_OPTIONS: Final = (
    # Answers carry packed vectors; the bytes in flight are bounded by the windows, not by this.
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # A peer that vanished without a word is noticed by its missing echo.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # Back-off is ours: a new channel tries at once, whatever an earlier one met.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
)


def describe(target: str, wait_seconds: float) -> Pool:
    """Asks a pool what it serves, waiting for it to come up for so long.

    Raises:
        PoolError: Nothing answers at `target`; the message says how to start a pool.
    """
    with grpc.insecure_channel(target, options=_CHANNEL_OPTIONS) as channel:
        stub = pb_grpc.EmbeddingServiceStub(channel)
        try:
            response = _patient(target, lambda: stub.GetModel(pb.GetModelRequest(), timeout=5), wait_seconds)
        except AwayError as error:
            raise PoolError(
                f"cannot reach a worker at {target} ({error}); start one with "
                f"'python -m worker serve --bundle DIR --listen {target}', or use --bundle DIR"
            ) from error
        return pool_of(response)


class QueryClient:
    """Embeds queries with one pool, in its query class; a context manager.

    Args:
        target: Address of the pool.
        wait_seconds: How long each call waits for a pool that is away or overloaded.
    """

    def __init__(self, target: str, wait_seconds: float) -> None:
        self.target = target
        self._wait_seconds = wait_seconds
        self._channel = grpc.insecure_channel(target, options=_CHANNEL_OPTIONS)
        self._stub = pb_grpc.EmbeddingServiceStub(self._channel)

    def __enter__(self) -> "QueryClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection."""
        self._channel.close()

    def embed(self, texts: Sequence[str]) -> tuple[NDArray[np.float32], str]:
        """Returns vectors float32 `[texts, dim]` and the fingerprint of their model.

        Raises:
            PoolError: The pool refused, for example an empty text, or stayed away.
        """
        request = pb.EmbedQueryRequest(texts=texts)
        response = _patient(
            self.target, lambda: self._stub.EmbedQuery(request, timeout=_RPC_SECONDS), self._wait_seconds
        )
        vectors = matrix(response.vectors)
        if len(vectors) != len(texts):
            raise PoolError(f"worker {self.target} gave {len(vectors)} vectors for {len(texts)} queries")
        return vectors.astype(np.float32, copy=False), response.model_fingerprint


class DocumentStream:
    """One bulk stream to a pool, in an asyncio loop.

    `send` and `receive` may run at the same time, each in one task. After AwayError the stream is dead:
    close it and open another.
    """

    def __init__(self, target: str, vector_type: VectorType) -> None:
        self.target = target
        self._channel = grpc.aio.insecure_channel(target, options=_CHANNEL_OPTIONS)
        self._stub = pb_grpc.EmbeddingServiceStub(self._channel)
        self._vector_type = vector_type
        self._call: Any = None

    async def open(self, refusal_seconds: float = 0.0) -> Pool:
        """Connects and returns what the pool serves.

        Args:
            refusal_seconds: How long to wait for a pool to refuse the stream before anything is sent: a
                status that meets a write is lost.

        Raises:
            AwayError: The pool is away, or refuses for now.
            PoolError: It refuses for good.
        """
        try:
            pool = pool_of(await self._stub.GetModel(pb.GetModelRequest(), timeout=_RPC_SECONDS))
        except grpc.aio.AioRpcError as error:
            raise _translated(self.target, error) from error
        self._call = self._stub.EmbedDocuments()
        if refusal_seconds:
            ended = asyncio.ensure_future(self._call.code())
            await asyncio.wait({ended}, timeout=refusal_seconds)
            if ended.done():
                details, trailing = await self._call.details(), await self._call.trailing_metadata()
                raise _translated(self.target, _Ended(ended.result(), details, trailing))
            ended.cancel()
        return pool

    async def send(self, batch: Batch) -> None:
        """Sends a batch, waiting while the pool takes no more; raises AwayError or PoolError."""
        request = batch_request(batch, self._vector_type)
        try:
            await self._call.write(request)
        except grpc.aio.AioRpcError as error:
            raise _translated(self.target, error) from error
        except (asyncio.InvalidStateError, grpc.aio.UsageError) as error:
            # The call was over before the write began; `receive` hears why.
            raise AwayError(f"the stream to {self.target} has ended") from error

    async def receive(self) -> Answer:
        """Returns the next answer, for whichever batch; raises AwayError or PoolError."""
        try:
            response = await self._call.read()
        except grpc.aio.AioRpcError as error:
            raise _translated(self.target, error) from error
        if response is grpc.aio.EOF:
            raise AwayError(f"worker {self.target} ended the stream")
        return answer_of(self.target, response)

    async def close(self) -> None:
        """Ends the stream, if it is open, and the connection."""
        if self._call is not None:
            self._call.cancel()
        await self._channel.close()


def _patient(target: str, call: Any, wait_seconds: float) -> Any:
    """Calls until it succeeds or has been away for `wait_seconds`; raises AwayError or PoolError."""
    deadline = time.monotonic() + wait_seconds
    delay = _FIRST_DELAY_SECONDS
    while True:
        try:
            return call()
        except grpc.RpcError as error:
            meaning = _translated(target, error)
            pause = max(delay, getattr(meaning, "retry_after", 0.0))
            if not isinstance(meaning, AwayError) or time.monotonic() + pause > deadline:
                raise meaning from error
        time.sleep(pause)
        delay = min(2 * delay, _LAST_DELAY_SECONDS)


def _translated(target: str, error: Any) -> PoolError:
    """Returns what a failed call means."""
    code, details = error.code(), error.details() or "no details"
    # Of a failed connection gRPC tells a whole story, and at its end what happened.
    details = details.rsplit("last error: ", 1)[-1]
    if _STATUS_LOST in details:
        return AwayError(f"worker {target} ended the stream while a batch was sent")
    # A stream that ends well while answers are owed is one that broke.
    if code in _AWAY or code is grpc.StatusCode.OK:
        return AwayError(f"worker {target}: {code.name}: {details}", _retry_after(error))
    return PoolError(f"worker {target} refused: {code.name}: {details}")


def _retry_after(error: Any) -> float:
    """Returns the seconds of a RetryInfo in the error's details, 0 without one."""
    status = rpc_status.from_call(_Ended(error.code(), error.details(), error.trailing_metadata()))
    for detail in status.details if status is not None else ():
        info = error_details_pb2.RetryInfo()
        if detail.Is(info.DESCRIPTOR) and detail.Unpack(info):
            return float(info.retry_delay.ToTimedelta().total_seconds())
    return 0.0


class _Ended:
    """A status with the face that `rpc_status.from_call` reads."""

    def __init__(self, code: Any, details: str | None, trailing: Any) -> None:
        self.code, self.details = lambda: code, lambda: details or ""
        self.trailing_metadata = lambda: trailing or ()
