"""What an operator asks of a running server: to take over another model, and its counts."""

import asyncio
import logging
from pathlib import Path
from typing import Any

from embedpool.v1 import admin_service_pb2 as pb
from embedpool.v1 import admin_service_pb2_grpc
from worker.errors import BundleError, ModelError, WorkerError
from worker.operation.overview import Overview, Watch, memory_of
from worker.processes.pool import Pool
from worker.processes.procfs import Memory
from worker.processes.slot import ProcessView
from worker.scheduling.scheduler import Priority
from worker.statistics import Histogram
from worker.wires.status import abort

_log = logging.getLogger(__name__)

_NO_MEMORY = Memory(0, 0, 0)

# gRPC publishes no types: an Any with a name.
_Context = Any


class AdminService(admin_service_pb2_grpc.AdminServiceServicer):
    """Reloads and tells. Who may ask is checked before (`interceptors.py`)."""

    def __init__(self, pool: Pool, watch: Watch) -> None:
        self._pool = pool
        self._watch = watch

    async def Reload(self, request: pb.ReloadRequest, context: _Context) -> pb.ReloadResponse:  # noqa: N802
        """Has another bundle take over; see the contract in `admin_service.proto`."""
        try:
            # Shielded: who asked and left must not stop a take-over half-way.
            result = await asyncio.shield(self._pool.reload(Path(request.bundle) if request.bundle else None))
        except ModelError as error:
            # Elsewhere a failure of this server; here one of the bundle that it was to load.
            await abort(context, BundleError(str(error)))
        except WorkerError as error:
            _log.warning("reload failed advice=%r why=%r", "the old model serves on", str(error))
            await abort(context, error)
        return pb.ReloadResponse(
            model_fingerprint=result.model.manifest.fingerprint,
            previous_fingerprint=result.previous.manifest.fingerprint,
            generation=result.model.generation,
            changed=result.changed,
        )

    async def GetStatistics(  # noqa: N802
        self, request: pb.GetStatisticsRequest, context: _Context
    ) -> pb.GetStatisticsResponse:
        """Tells the counts since the start and the state now."""
        # In a thread: the kernel takes milliseconds to tell the memory of a process.
        return await asyncio.to_thread(statistics_response, self._watch.overview())


async def reload_on_hangup(pool: Pool) -> None:
    """Reads the served bundle again; what keeps it from taking over is logged, the old model serves on."""
    try:
        result = await pool.reload(None)
    except WorkerError as error:
        _log.warning("reload failed advice=%r why=%r", "the old model serves on", str(error))
    except Exception:  # what else it may be, the next SIGHUP must be heeded
        _log.exception("reload failed advice=%r", "the old model serves on")
    else:
        _log.info("reloaded changed=%s generation=%d", result.changed, result.model.generation)


def statistics_response(state: Overview) -> pb.GetStatisticsResponse:
    """Builds the answer; reads the memory of the processes, which takes milliseconds."""
    return pb.GetStatisticsResponse(
        uptime_seconds=state.uptime,
        model_fingerprint=state.model.manifest.fingerprint,
        generation=state.model.generation,
        queries=_class(state, Priority.QUERY),
        documents=_class(state, Priority.BULK),
        processes=[_process(view) for view in state.processes],
        process_ends={end.value: count for end, count in state.statistics.ends.items()},
        reloads=state.statistics.reloads,
        open_streams=state.open_streams,
        query_bytes_in_flight=state.bytes[Priority.QUERY],
        document_bytes_in_flight=state.bytes[Priority.BULK],
    )


def _class(state: Overview, priority: Priority) -> pb.ClassStatistics:
    counts = state.statistics.classes[priority]
    return pb.ClassStatistics(
        texts={outcome.value: count for outcome, count in counts.texts.items()},
        tokens=counts.tokens,
        padded_tokens=counts.padded_tokens,
        runs=counts.runs,
        truncated=counts.truncated,
        waiting=state.waiting[priority],
        queue_seconds=_distribution(counts.queue),
        run_seconds=_distribution(counts.run),
    )


def _distribution(histogram: Histogram) -> pb.Distribution:
    return pb.Distribution(
        count=histogram.count, sum=histogram.sum, bounds=histogram.bounds, counts=histogram.counts
    )


def _process(view: ProcessView) -> pb.ProcessStatistics:
    memory = memory_of(view.pid) or _NO_MEMORY
    return pb.ProcessStatistics(
        slot=view.slot,
        pid=view.pid,
        state=view.state.value,
        resident_bytes=memory.resident,
        proportional_bytes=memory.proportional,
        runs=view.runs,
        restarts=view.restarts,
    )
