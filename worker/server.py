"""The server, gRPC and HTTP: listens, starts the pool, tells its health, drains and ends."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from embedpool.v1 import admin_service_pb2 as admin_pb
from embedpool.v1 import admin_service_pb2_grpc
from worker.bundle import Bundle
from worker.cpu_flags import compare_flags, cpu_flags, rebuild_command
from worker.models import Model, load_model
from worker.operation.admin import AdminService, reload_on_hangup
from worker.operation.credentials import Certificates
from worker.operation.interceptors import Guard, Observer
from worker.operation.listen import bind, bind_http, check_page
from worker.operation.metrics import MetricsPage
from worker.operation.overview import Watch
from worker.operation.signals import first, on_hangup, stop_event
from worker.operation.tokens import Tokens
from worker.operation.tracing import Tracer
from worker.processes.pool import Pool
from worker.requests.endings import Endings
from worker.requests.frontend import Frontend
from worker.requests.intake import Intake
from worker.settings.config import ServeConfig
from worker.statistics import Statistics
from worker.wires.http.application import Application
from worker.wires.http.listener import Listener
from worker.wires.parsing import Parser
from worker.wires.registry import SERVICES, add_services

_log = logging.getLogger(__name__)

_ADMIN_SERVICE = admin_pb.DESCRIPTOR.services_by_name["AdminService"].full_name
_ALL_SERVICES = (*SERVICES, _ADMIN_SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
# Seconds for the last answers to leave after all work is done; arbitrary.
_FLUSH_SECONDS = 1.0
# Milliseconds between pings of a silent connection: finds dead peers; arbitrary, below common NAT timeouts.
_KEEPALIVE_MS = 60_000
# Milliseconds between pings that clients may send at the most; arbitrary, the least that gRPC clients allow.
_MIN_CLIENT_PING_MS = 10_000
# Calls of one connection at the same moment; those above wait in the client. Arbitrary.
_MAX_CALLS_PER_CONNECTION = 1000


async def serve(config: ServeConfig, announce: Callable[[str], None]) -> bool:
    """Serves until a signal to stop.

    Args:
        config: What to serve and how.
        announce: Called once with the address to dial, when texts can be embedded.

    Returns:
        Whether all accepted work was answered.

    Raises:
        BundleError: The bundle cannot be read or is damaged, or computes no vectors.
        ConfigError: A certificate or token file cannot be used, or the address would be unsafe.
        ListenError: The address cannot be listened on.
        ModelError: A process could not load the model.
    """
    model = load_model(config.bundle, 1, config.max_tokens)
    _warn_of_other_cpu(model.bundle)
    stop = stop_event(config.stop_on_stdin_close)
    parts = _assemble(config, model)
    address = bind(parts.rpc, config, parts.certificates)
    if parts.http is not None:
        await _open_http(parts.http, config)
    if parts.page is not None:
        parts.page.start()
    await _set_health(parts.status, serving=False)
    await parts.rpc.start()
    tasks = [
        asyncio.create_task(_report_health(parts.status, parts.liveness)),
        asyncio.create_task(on_hangup(parts.take_up)),
    ]
    try:
        if not await first(parts.pool.start(), stop.wait()):
            announce(address)
            _log.info(
                "serving address=%s model=%s processes=%d", address, model.manifest.name, config.processes
            )
            await stop.wait()
        _log.info("draining seconds=%g", config.drain_seconds)
        await parts.status.enter_graceful_shutdown()
        cut = await parts.frontend.drain(config.drain_seconds)
    finally:
        for task in tasks:
            task.cancel()
        await parts.end()
    _log.info("ended unanswered_rpcs=%d", cut)
    return cut == 0


@dataclass(frozen=True)
class _Parts:
    """What a server is made of; `liveness` has whether the pool can compute, each time that changes."""

    rpc: grpc.aio.Server
    status: health.aio.HealthServicer
    liveness: "asyncio.Queue[bool]"
    pool: Pool
    frontend: Frontend
    intake: Intake
    tokens: Tokens
    certificates: Certificates | None
    http: Listener | None
    page: MetricsPage | None
    tracer: Tracer | None

    async def take_up(self) -> None:
        """Reads tokens, certificates and the bundle again."""
        _log.info("hangup effect=%r", "tokens, certificates and the bundle are read again")
        self.tokens.look()
        if self.certificates is not None:
            self.certificates.look()
        await reload_on_hangup(self.pool)

    async def end(self) -> None:
        """Stops everything; what is not answered by now is cut off."""
        ends = [self.rpc.stop(_FLUSH_SECONDS)]
        if self.http is not None:
            ends.append(self.http.stop(_FLUSH_SECONDS))
        await asyncio.gather(*ends)
        await self.pool.stop()
        self.intake.close()
        if self.page is not None:
            await asyncio.to_thread(self.page.stop)
        if self.tracer is not None:
            await asyncio.to_thread(self.tracer.close)


def _assemble(config: ServeConfig, model: Model) -> _Parts:
    """Makes all parts and joins them; nothing is started, no address is bound."""
    tokens, statistics = Tokens(config.auth), Statistics()
    certificates, endings = Certificates(config.tls) if config.tls.cert else None, Endings(statistics)
    tracer = Tracer(config.tracing) if config.tracing.endpoint else None
    rpc = grpc.aio.server(
        interceptors=(Observer(endings, tracer), Guard(tokens), Parser()),
        options=_options(config),
    )
    status = health.aio.HealthServicer()
    liveness: asyncio.Queue[bool] = asyncio.Queue()
    pool = Pool(model, config, liveness.put_nowait, statistics)
    intake = Intake(config.limits)
    frontend = Frontend(config, pool, intake, statistics)
    watch = Watch(config, pool, frontend, statistics)
    add_services(frontend, rpc)
    admin_service_pb2_grpc.add_AdminServiceServicer_to_server(AdminService(pool, watch), rpc)
    health_pb2_grpc.add_HealthServicer_to_server(status, rpc)
    reflection.enable_server_reflection(_ALL_SERVICES, rpc)
    return _Parts(
        *(rpc, status, liveness, pool, frontend, intake, tokens),
        certificates=certificates,
        http=_http(config, lambda: Application(config, frontend, tokens, endings, tracer), certificates),
        page=_metrics_page(config, watch),
        tracer=tracer,
    )


def _http(
    config: ServeConfig, application: Callable[[], Application], certificates: Certificates | None
) -> Listener | None:
    if not config.http.listen:
        return None
    context = None if certificates is None else certificates.context()
    return Listener(application(), config.http, context)


async def _open_http(http: Listener, config: ServeConfig) -> None:
    listening, address = bind_http(config, encrypted=bool(config.tls.cert))
    await http.start(listening)
    scheme = "https" if config.tls.cert else "http"
    _log.info("http address=%s base_url=%s", address, f"{scheme}://{address}/v1")


def _metrics_page(config: ServeConfig, watch: Watch) -> MetricsPage | None:
    if not config.metrics.listen:
        return None
    check_page(config.metrics.listen, insecure=config.insecure)
    return MetricsPage(config.metrics.listen, watch.overview)


def _warn_of_other_cpu(bundle: Bundle) -> None:
    difference = compare_flags(bundle.manifest.cpu_flags, cpu_flags())
    if difference:
        _log.warning(
            "measured_on_another_cpu missing=%s extra=%s effect=%r advice=%r",
            ",".join(difference.missing) or "none",
            ",".join(difference.extra) or "none",
            "speed differs and another recipe may be faster; vectors do not, but for rounding",
            f"measure on this CPU: {rebuild_command(bundle)}",
        )


def _options(config: ServeConfig) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", config.limits.max_message_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
        # Clients may look for a dead server this often, also between calls.
        ("grpc.http2.min_recv_ping_interval_without_data_ms", _MIN_CLIENT_PING_MS),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.max_concurrent_streams", _MAX_CALLS_PER_CONNECTION),
        # With it a second server on the same port would silently take half of the callers.
        ("grpc.so_reuseport", 0),
    ]


async def _report_health(status: health.aio.HealthServicer, changes: "asyncio.Queue[bool]") -> None:
    while True:
        await _set_health(status, serving=await changes.get())


async def _set_health(status: health.aio.HealthServicer, *, serving: bool) -> None:
    state = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
    for name in ("", *SERVICES):
        await status.set(name, state)
