"""Traces by OpenTelemetry: a span for each query and each batch, with tokenizing, waiting and running in it.

Guarantees: no text is ever in a trace; sending happens in a thread of its own, and a collector that is slow
or gone costs traces, never answers. Assumes the extra `tracing`, which is loaded when a tracer is made.
"""

import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from worker.errors import ConfigError
from worker.requests.calls import Call, Stage
from worker.settings.groups import Tracing

# Milliseconds that the last traces may take at the end; arbitrary.
_FLUSH_MS = 3000


class Tracer:
    """Sends traces to a collector (OTLP over gRPC) until `close`.

    A caller that is traced decides for its requests (W3C `traceparent`), of the others a share is traced.

    Args:
        config: Where to, and which share.

    Raises:
        ConfigError: The extra is not installed.
    """

    def __init__(self, config: Tracing) -> None:
        try:
            from opentelemetry import trace
            from opentelemetry.context import Context
            from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import OTELResourceDetector, Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
        except ImportError as error:
            raise ConfigError(
                f"--trace-endpoint needs OpenTelemetry, which is not installed ({error.name}): "
                "pip install 'embedpool[tracing]'"
            ) from None
        self._trace = trace
        self._nothing = Context()
        self._propagator = TraceContextTextMapPropagator()
        # The variables OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES go before these names.
        names = {"service.name": "embedpool-worker", "service.version": version("embedpool")}
        self._provider = TracerProvider(
            sampler=ParentBasedTraceIdRatio(config.ratio),
            resource=Resource.create({**names, **OTELResourceDetector().detect().attributes}),
            shutdown_on_exit=False,
        )
        exporter = OTLPSpanExporter(endpoint=config.endpoint, insecure=config.endpoint.startswith("http://"))
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("embedpool.worker")

    def record(
        self, call: Call, whole: Stage, parts: Sequence[Stage], facts: Mapping[str, str | int]
    ) -> None:
        """Takes down a span with a span in it for each of its parts."""
        # Spans have the time of day, stages that of a clock which never jumps.
        offset = time.time_ns() - time.perf_counter_ns()
        parent = self._propagator.extract(call.trace_parent, self._nothing)
        span = self._tracer.start_span(
            whole.name,
            parent,
            kind=self._trace.SpanKind.SERVER,
            attributes={**facts, "embedpool.request_id": call.request_id},
            start_time=whole.start_ns + offset,
        )
        if span.is_recording():
            self._record_parts(span, parts, offset)
            if facts.get("rpc.grpc.status", "OK") != "OK":
                span.set_status(self._trace.StatusCode.ERROR)
        span.end(whole.end_ns + offset)

    def close(self) -> None:
        """Sends what is left, for a few seconds at most."""
        self._provider.force_flush(_FLUSH_MS)
        self._provider.shutdown()

    def _record_parts(self, span: Any, parts: Sequence[Stage], offset: int) -> None:
        inside = self._trace.set_span_in_context(span, self._nothing)
        for part in parts:
            self._tracer.start_span(part.name, inside, start_time=part.start_ns + offset).end(
                part.end_ns + offset
            )
