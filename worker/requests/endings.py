"""How calls end, whatever wire they came by: counted, logged, and a span where they are traced.

Assumes one event loop.
"""

import logging
import time

from worker.requests.calls import Call, Stage, facts_of
from worker.statistics import Statistics

_log = logging.getLogger(__name__)

# Lines a second for failed calls of one status: a flood of refusals must not be one of disk writes.
# Arbitrary.
_LINES_A_SECOND = 10
# The server's own faults; all other failures are the caller's, or of the moment.
_FAULTS = frozenset({"INTERNAL", "UNKNOWN", "DATA_LOSS"})


class Limiter:
    """Lets so many lines of a kind through a second, and counts those that it held back. Pure."""

    def __init__(self, lines_a_second: int = _LINES_A_SECOND) -> None:
        self._lines = lines_a_second
        self._seen: dict[str, tuple[int, int]] = {}

    def held_back(self, kind: str, now: float) -> int | None:
        """Returns how many lines of the kind were held back before this one; None holds this one back."""
        second, count = self._seen.get(kind, (-1, 0))
        if second == int(now):
            self._seen[kind] = (second, count + 1)
            return None if count >= self._lines else 0
        self._seen[kind] = (int(now), 1)
        return max(0, count - self._lines)


class Endings:
    """Takes down how each call ended: debug when OK, else info or warning.

    Args:
        statistics: Counts it by method and status; a wire without gRPC's statuses takes their names too, so
            that one alert watches all wires.
    """

    def __init__(self, statistics: Statistics) -> None:
        self._statistics = statistics
        self._limiter = Limiter()

    def ended(self, call: Call, status: str, began_ns: int, *, is_span: bool) -> None:
        """Takes down the end of a call.

        Args:
            call: The call.
            status: Name of its gRPC status.
            began_ns: When it began, by `time.perf_counter_ns`.
            is_span: Whether it is a span of its own where it is traced; the batches of a stream are.
        """
        self._statistics.rpc_ended(call.method, status)
        ended_ns = time.perf_counter_ns()
        if call.recorder is not None and is_span:
            facts = facts_of(call.texts, call.tokens, call.fingerprint) | {"rpc.grpc.status": status}
            whole = Stage(call.method.lstrip("/"), began_ns, ended_ns)
            call.recorder.record(call, whole, call.stages, facts)
        level = logging.DEBUG if status == "OK" else logging.WARNING if status in _FAULTS else logging.INFO
        if not _log.isEnabledFor(level):
            return
        held_back = 0
        if level != logging.DEBUG:
            limited = self._limiter.held_back(status, time.monotonic())
            if limited is None:
                return
            held_back = limited
        _log.log(
            level,
            "rpc method=%s status=%s duration_ms=%.2f texts=%d tokens=%d caller=%s lines_held_back=%d",
            *(
                call.method,
                status,
                round((ended_ns - began_ns) / 1e6, 2),
                call.texts,
                call.tokens,
                call.caller or "-",
                held_back,
            ),
        )
