"""One pool behind one gRPC channel. The only file of the indexer that imports gRPC.

Statuses become errors of `indexer.errors` here, by the tables of `status`. Everything runs in one asyncio
loop.
"""

import asyncio
import uuid
from collections.abc import Sequence
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from embedpool.v1 import admin_service_pb2 as admin_pb
from embedpool.v1 import admin_service_pb2_grpc as admin_grpc
from embedpool.v1 import embedding_service_pb2 as pb
from embedpool.v1 import embedding_service_pb2_grpc as pb_grpc
from indexer.client import status as statuses
from indexer.client.answers import Answer, Embeddings, Pool
from indexer.client.failures import Ended, translated
from indexer.client.naming import joined
from indexer.client.settings import Access, Options, TlsConfig, read_file
from indexer.client.statistics import Statistics
from indexer.client.status import Status
from indexer.client.tracing import trace_headers
from indexer.client.wire import (
    answer_of,
    batch_request,
    embeddings_of,
    options_message,
    pool_of,
    query_request,
    statistics_of,
)
from indexer.errors import AwayError, PoolError

_MODEL_SECONDS = 60.0  # in which a pool must describe itself before a stream; arbitrary
_SERVING = health_pb2.HealthCheckResponse.SERVING
_CHANNEL_OPTIONS: Final = (
    # Answers carry packed vectors; the bytes in flight are bounded by the windows, not by this.
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # A peer that vanished without a word is noticed by its missing echo.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # Back-off is ours: a new channel tries at once, whatever an earlier one met, and an old one soon again.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.enable_retries", 0),
)


def new_request_id() -> str:
    """Returns an id that no other request has."""
    return uuid.uuid4().hex


class Connection:
    """Calls to one pool; must be made inside a running loop.

    Args:
        target: `HOST:PORT` or `unix:PATH`.
        access: What opens it.
        host: Name that led to the address: its certificate bears it, and calls are addressed to it.

    Raises:
        ConfigError: A file of the TLS configuration cannot be read, or a token would travel unencrypted.
    """

    def __init__(self, target: str, access: Access, host: str = "") -> None:
        access.check(target)
        self.target = target
        self._access = access
        self._channel = _open_channel(target, access.tls, host)
        self._stub = pb_grpc.EmbeddingServiceStub(self._channel)
        self._holders = 0
        self._unheld = asyncio.Event()
        self._unheld.set()

    def hold(self) -> None:
        """Notes that somebody calls, or is about to: `retire` waits for it."""
        self._holders += 1
        self._unheld.clear()

    def release(self) -> None:
        """Notes that a holder is done."""
        self._holders -= 1
        if not self._holders:
            self._unheld.set()

    async def retire(self) -> None:
        """Ends the connection as soon as nobody holds it."""
        await self._unheld.wait()
        await self.close()

    async def close(self) -> None:
        """Ends the connection and every call on it; none may begin afterwards."""
        await self._channel.close()
        # gRPC closes the socket when the last reference goes. Tracebacks of ended tasks would hold one until
        # Python looks for cycles, and the pool's socket with it.
        del self._channel, self._stub

    async def model(self, seconds: float, request_id: str = "") -> Pool:
        """Returns what the pool serves; raises AwayError or PoolError."""
        call = self._stub.GetModel(pb.GetModelRequest(), timeout=seconds, metadata=self._metadata(request_id))
        return pool_of(await self._answer(call, request_id))

    async def check_health(self, seconds: float) -> None:
        """Raises AwayError unless the pool says that it serves; one without health checks is believed."""
        stub = health_pb2_grpc.HealthStub(self._channel)
        try:
            call = stub.Check(health_pb2.HealthCheckRequest(), timeout=seconds, metadata=self._metadata(""))
            answer = await self._answer(call, "")
        except PoolError as error:
            if error.code in (Status.UNIMPLEMENTED, Status.NOT_FOUND):
                return
            raise
        if answer.status != _SERVING:
            name = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
            raise AwayError(f"worker {self.target} says that it is {name}")

    async def echo(self, seconds: float) -> None:
        """Raises AwayError unless the pool says anything at all; one that drains does."""
        stub = health_pb2_grpc.HealthStub(self._channel)
        try:
            call = stub.Check(health_pb2.HealthCheckRequest(), timeout=seconds, metadata=self._metadata(""))
            await self._answer(call, "")
        except PoolError as error:
            if error.code == Status.DEADLINE_EXCEEDED:
                raise

    async def embed_query(
        self, texts: Sequence[str], options: Options, seconds: float, request_id: str
    ) -> Embeddings:
        """Returns the vectors of a few texts; raises AwayError or PoolError."""
        request = query_request(texts, options)
        call = self._stub.EmbedQuery(request, timeout=seconds, metadata=self._metadata(request_id))
        return embeddings_of(self.target, len(texts), await self._answer(call, request_id), request_id)

    async def statistics(self, seconds: float, request_id: str) -> Statistics:
        """Returns what the pool counted; raises AwayError or PoolError."""
        stub = admin_grpc.AdminServiceStub(self._channel)
        call = stub.GetStatistics(
            admin_pb.GetStatisticsRequest(), timeout=seconds, metadata=self._metadata(request_id)
        )
        return statistics_of(await self._answer(call, request_id))

    def stream(self, request_id: str) -> Any:
        """Returns a new bulk call."""
        return self._stub.EmbedDocuments(metadata=self._metadata(request_id))

    def _metadata(self, request_id: str) -> tuple[tuple[str, str], ...]:
        metadata = (("x-request-id", request_id or new_request_id()), *trace_headers())
        token = self._access.read_token()
        return (*metadata, ("authorization", f"Bearer {token}")) if token else metadata

    async def _answer(self, call: Any, request_id: str) -> Any:
        try:
            return await call
        except grpc.aio.AioRpcError as error:
            raise translated(self.target, error, statuses.CALL, request_id) from error
        except asyncio.CancelledError:
            # gRPC raises this also where not the caller but a closed channel cancelled the call.
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise AwayError(f"the connection to {self.target} was closed", code=Status.CANCELLED) from None


class DocumentStream:
    """One bulk stream to a pool, on a connection of its own, in an asyncio loop.

    `send` and `receive` may run at the same time, each in one task. After AwayError the stream is dead:
    close it and open another.
    """

    def __init__(self, target: str, access: Access, options: Options, host: str = "") -> None:
        self.target = target
        self._connection = Connection(target, access, host)
        self._options: pb.EmbeddingOptions | None = options_message(options)
        self._separate = options.separate
        self._request_id = new_request_id()
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
        pool = await self._connection.model(_MODEL_SECONDS, self._request_id)
        self._call = self._connection.stream(self._request_id)
        if refusal_seconds:
            ended = asyncio.ensure_future(self._call.code())
            await asyncio.wait({ended}, timeout=refusal_seconds)
            if ended.done():
                details, trailing = await self._call.details(), await self._call.trailing_metadata()
                raise self._failure(Ended(ended.result(), details, trailing))
            ended.cancel()
        return pool

    async def send(self, number: int, texts: Sequence[bytes]) -> None:
        """Sends a batch, waiting while the pool takes no more; raises AwayError or PoolError."""
        request = batch_request(number, texts, self._options)
        self._options = None
        try:
            await self._call.write(request)
        except grpc.aio.AioRpcError as error:
            raise self._failure(error) from error
        except (asyncio.InvalidStateError, grpc.aio.UsageError) as error:
            # The call was over before the write began; `receive` hears why.
            raise AwayError(f"the stream to {self.target} has ended") from error

    async def receive(self) -> Answer:
        """Returns the next answer, for whichever batch; raises AwayError or PoolError."""
        try:
            response = await self._call.read()
        except grpc.aio.AioRpcError as error:
            raise self._failure(error) from error
        if response is grpc.aio.EOF:
            raise AwayError(f"worker {self.target} ended the stream")
        return answer_of(self.target, response, separate=self._separate)

    async def echo(self, seconds: float) -> None:
        """Raises AwayError unless the pool says anything, beside the stream, in so many seconds."""
        await self._connection.echo(seconds)

    async def close(self) -> None:
        """Ends the stream, if it is open, and the connection."""
        if self._call is not None:
            self._call.cancel()
            self._call = None
        await self._connection.close()

    def _failure(self, error: Any) -> PoolError:
        return translated(self.target, error, statuses.STREAM, self._request_id)


def _open_channel(target: str, tls: TlsConfig | None, host: str) -> Any:
    if tls is None:
        port = int(target.rpartition(":")[2]) if host else 0
        named = (("grpc.default_authority", joined(host, port)),) if host else ()
        return grpc.aio.insecure_channel(target, options=(*_CHANNEL_OPTIONS, *named))
    credentials = grpc.ssl_channel_credentials(
        root_certificates=read_file(tls.ca, "CA certificates") if tls.ca else None,
        private_key=read_file(tls.key, "client key") if tls.key else None,
        certificate_chain=read_file(tls.cert, "client certificate") if tls.cert else None,
    )
    host = tls.server_name or host
    named = (("grpc.ssl_target_name_override", host),) if host else ()
    return grpc.aio.secure_channel(target, credentials, options=(*_CHANNEL_OPTIONS, *named))
