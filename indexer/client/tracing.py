"""The trace that a call belongs to, where the caller traces with OpenTelemetry; it need not be installed."""

from functools import cache
from typing import Any


@cache
def _opentelemetry() -> tuple[Any, Any] | None:
    """Returns how to read the current span and how to write its context, None without the package."""
    try:
        from opentelemetry import trace
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
    except ImportError:
        return None
    return trace.get_current_span, TraceContextTextMapPropagator()


def trace_headers() -> tuple[tuple[str, str], ...]:
    """Returns `traceparent` and `tracestate` of the current span (W3C Trace Context), nothing without one.

    Baggage is left out: what a caller keeps for itself does not belong in a pool's metadata.
    """
    found = _opentelemetry()
    if found is None or not found[0]().get_span_context().is_valid:
        return ()
    headers: dict[str, str] = {}
    found[1].inject(headers)
    return tuple(headers.items())
