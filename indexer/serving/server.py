"""The search server: opens the index, listens, follows what is in use, drains and ends."""

import asyncio
import logging
import signal
from collections.abc import Callable

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from indexer.errors import IndexerError
from indexer.search.following import Following
from indexer.serving.calls import Guard, Observer
from indexer.serving.config import ServeConfig
from indexer.serving.credentials import Tokens
from indexer.serving.listen import bind
from indexer.serving.pools import Pools
from indexer.serving.service import NAME, SearchService

_log = logging.getLogger(__name__)

_FOLLOW_SECONDS = 1.0  # between two looks at CURRENT; a look takes well below a millisecond
_FLUSH_SECONDS = 1.0  # for the last answers to leave after all work is done; arbitrary
_OPTIONS = (
    ("grpc.max_send_message_length", -1),
    # Finds dead peers; arbitrary, below common timeouts of address translation.
    ("grpc.keepalive_time_ms", 60_000),
    # Clients may look for a dead server this often, also between calls.
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # With it a second server on the same port would silently take half of the callers.
    ("grpc.so_reuseport", 0),
)


async def serve(config: ServeConfig, announce: Callable[[str], None]) -> bool:
    """Serves an index until SIGTERM or SIGINT.

    Args:
        config: What to serve and how.
        announce: Called once with the address to dial, when the index can be searched.

    Returns:
        Whether all accepted calls were answered.

    Raises:
        ConfigError: A certificate or token file cannot be used, or the address would be unsafe.
        ListenError: The address cannot be listened on.
        StoreError: The folder is no complete index.
        ModelMismatchError: The pools serve another model than the index's.
        PoolError: The pools refuse, for example the token.
    """
    stop = _stop_event()
    following = await asyncio.to_thread(lambda: Following(config.index, mapped=config.mapped))
    pools = Pools(str(config.index), config.targets, config.access)
    try:
        await _meet(pools, following, config)
        return await _serve(config, following, pools, stop, announce)
    finally:
        await pools.close()


async def _serve(
    config: ServeConfig,
    following: Following,
    pools: Pools,
    stop: asyncio.Event,
    announce: Callable[[str], None],
) -> bool:
    guards = (Guard(Tokens(config.token_file)),) if config.token_file is not None else ()
    server = grpc.aio.server(interceptors=(*guards, Observer()), options=_OPTIONS)
    service, status = SearchService(following, pools, config.limits), health.aio.HealthServicer()
    service.add_to(server)
    health_pb2_grpc.add_HealthServicer_to_server(status, server)
    reflection.enable_server_reflection((NAME, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    try:
        address = bind(server, config)
        await server.start()
        for name in ("", NAME):
            await status.set(name, health_pb2.HealthCheckResponse.SERVING)
        announce(address)
        snapshot = following.snapshot
        _log.info(
            "serving address=%s generation=%s documents=%d",
            *(address, snapshot.place.name, snapshot.documents),
        )
        del snapshot
        follower = asyncio.create_task(_follow(following))
        await stop.wait()
        follower.cancel()
        _log.info("draining seconds=%g", config.limits.drain_seconds)
        await status.enter_graceful_shutdown()
        cut = await service.drain(config.limits.drain_seconds)
    finally:
        await server.stop(_FLUSH_SECONDS)
        service.close()
    _log.info("ended unanswered_calls=%d", cut)
    return cut == 0


async def _meet(pools: Pools, following: Following, config: ServeConfig) -> None:
    """Refuses to start with a pool of another model; one that is away may come later."""
    away = await pools.check(following.snapshot.plan.model, config.limits.pool_seconds)
    if away:
        _log.warning("no pool effect=%r why=%r", "searches by text wait for one", away)


async def _follow(following: Following) -> None:
    """Takes up each generation soon after it is in use; what cannot be opened is told once."""
    told = ""
    while True:
        await asyncio.sleep(_FOLLOW_SECONDS)
        try:
            if await asyncio.to_thread(following.reload):
                snapshot = following.snapshot
                _log.info(
                    "took up generation=%s documents=%d",
                    *(snapshot.place.name, snapshot.documents),
                )
                del snapshot
            told = ""
        except IndexerError as error:
            if str(error) != told:
                told = str(error)
                _log.error("cannot take up effect=%r why=%r", "the old generation stays", told)


def _stop_event() -> asyncio.Event:
    """Returns an event that is set when the process is to stop; handlers only set it."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop
