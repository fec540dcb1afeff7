"""The state of a server at one moment, for the metrics page and for GetStatistics.

Assumes: `Watch.overview` is called on the event loop that the counts belong to. It returns a copy: any
thread may read that.
"""

import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from worker.models import Model
from worker.processes.pool import Pool
from worker.processes.procfs import Memory, read_memory
from worker.processes.slot import ProcessView
from worker.scheduling.scheduler import Priority
from worker.settings.config import ServeConfig
from worker.statistics import Statistics


class Holder(Protocol):
    """Who holds texts that are not answered yet."""

    @property
    def open_streams(self) -> int:
        """Bulk streams that are open."""

    @property
    def query_bytes(self) -> int:
        """Bytes that queries hold."""

    @property
    def document_bytes(self) -> int:
        """Bytes that bulk streams hold."""


@dataclass(frozen=True)
class Overview:
    """The state at one moment.

    Attributes:
        uptime: Seconds since the start.
        live: Whether texts can be embedded.
        model: The model that new work is for.
        processes: Each compute process.
        statistics: Counts since the start.
        waiting: Texts that wait for a process, by class.
        bytes: Bytes in flight, by class.
        byte_limits: What they may grow to, by class.
        open_streams: Bulk streams that are open.
        max_streams: How many may be.
    """

    uptime: float
    live: bool
    model: Model
    processes: Sequence[ProcessView]
    statistics: Statistics
    waiting: Mapping[Priority, int]
    bytes: Mapping[Priority, int]
    byte_limits: Mapping[Priority, int]
    open_streams: int
    max_streams: int


class Watch:
    """Looks at a server."""

    def __init__(self, config: ServeConfig, pool: Pool, holder: Holder, statistics: Statistics) -> None:
        self._config = config
        self._pool = pool
        self._holder = holder
        self._statistics = statistics
        self._began = time.monotonic()

    def overview(self) -> Overview:
        """Returns the state now."""
        limits, streams = self._config.limits, self._config.max_streams
        return Overview(
            uptime=time.monotonic() - self._began,
            live=self._pool.live,
            model=self._pool.current,
            processes=self._pool.processes(),
            statistics=copy.deepcopy(self._statistics),
            waiting={priority: self._pool.waiting(priority) for priority in Priority},
            bytes={Priority.QUERY: self._holder.query_bytes, Priority.BULK: self._holder.document_bytes},
            byte_limits={
                Priority.QUERY: limits.max_query_bytes_in_flight,
                Priority.BULK: limits.max_stream_bytes_in_flight * streams,
            },
            open_streams=self._holder.open_streams,
            max_streams=streams,
        )


def memory_of(pid: int) -> Memory | None:
    """Returns the memory of a process; None where none is, or it ended a moment ago. Takes milliseconds."""
    try:
        return read_memory(pid) if pid else None
    except OSError:
        return None
