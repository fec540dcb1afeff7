"""The compute processes and the work that waits for them.

Guarantees: what `dispatch.py` says of each text; a model's processes stay while it is current or leased,
and end after that; a bundle that cannot be served leaves the model that serves as it is. Assumes one event
loop: every method is called on it, nothing here blocks it.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from worker.errors import ModelError, ReloadRunningError, UnavailableError
from worker.models import Leases, Model, ReloadResult, load_model
from worker.processes.crew import Crew
from worker.processes.dispatch import MODEL_GONE, Dispatch, give_up
from worker.processes.frames import Answer
from worker.processes.hang import Clock
from worker.processes.slot import ProcessView, Slot
from worker.scheduling.scheduler import Priority
from worker.scheduling.work import Work
from worker.settings.config import ServeConfig
from worker.statistics import End, Statistics

_log = logging.getLogger(__name__)

# Seconds between two looks for stuck processes; arbitrary, and a quarter of the shortest deadline where that
# is less.
_WATCH_SECONDS = 1.0


class Pool:
    """Starts, feeds and watches the processes of the current model, and of those before it that are leased.

    Args:
        model: What is served first.
        config: How many processes, and their deadlines.
        on_liveness: Called with whether any process is live, each time that changes after the start.
        statistics: Counts runs, waits and ends of processes.
    """

    def __init__(
        self,
        model: Model,
        config: ServeConfig,
        on_liveness: Callable[[bool], None],
        statistics: Statistics,
    ) -> None:
        self._config = config
        self._path = config.bundle  # as it was given: a link may lead elsewhere by the next reload
        self._on_liveness = on_liveness
        self._statistics = statistics
        self._watch_seconds = min(_WATCH_SECONDS, config.hang_seconds / 4, config.run_seconds / 4)
        self._clock = Clock(2 * self._watch_seconds)
        self._leases = Leases(model, self._retire)
        self._dispatch = Dispatch(config.processes, statistics)
        self._crews: dict[int, Crew] = {}
        self._add(Crew(model, config, self, self._clock))
        self._next: Crew | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._live = self._started = self._stopping = self._reloading = False
        self._live_changed = self._clock.now()

    @property
    def current(self) -> Model:
        """The model that new work is for."""
        return self._leases.current

    def lease(self) -> AbstractContextManager[Model]:
        """Returns a lease of the current model: its processes stay until the lease is returned."""
        return self._leases.lease()

    @property
    def live(self) -> bool:
        """Whether the pool has started and a process of the current model can compute."""
        return self._live

    def waiting(self, priority: Priority) -> int:
        """Returns how many texts of a class wait for a process."""
        return self._dispatch.waiting(priority)

    def waiting_tokens(self, priority: Priority) -> int:
        """Returns the tokens of a class's texts that wait for a process."""
        return self._dispatch.waiting_tokens(priority)

    def processes(self) -> list[ProcessView]:
        """Returns what is to be told of each process."""
        return [view for crew in self._crews.values() for view in crew.views()]

    async def start(self) -> None:
        """Starts all processes and waits until each has checked itself.

        Raises:
            ModelError: One could not; the others are stopped.
        """
        self._watch(self._look_after())
        try:
            await self._crews[self.current.generation].start()
        except ModelError:
            await self.stop()
            raise
        self._started = True
        self._update_liveness()
        self._dispatch.feed_all()

    async def stop(self) -> None:
        """Ends all processes; what waits is delivered as unavailable."""
        self._stopping = self._dispatch.stopped = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        crews = [*self._crews.values(), *([self._next] if self._next is not None else [])]
        await asyncio.gather(*(crew.stop() for crew in crews))
        for crew in crews:
            give_up(crew, "the pool stopped before this text was computed")

    async def reload(self, path: Path | None) -> ReloadResult:
        """Loads a bundle beside the one that serves, checks it, and has it take over.

        What was accepted before is computed by the old model, whose processes end with its last lease.

        Args:
            path: The bundle's folder; None for the one that was given last, read again.

        Raises:
            BundleError: It cannot be read, is damaged, or cannot be served here; the old model serves on.
            ModelError: It cannot be loaded, or fails its check; the old model serves on.
            ReloadRunningError: Another reload has not ended.
            UnavailableError: The pool stops, or has not started.
        """
        if self._stopping or not self._started:
            raise UnavailableError("the pool starts or stops; nothing is loaded now")
        if self._reloading:
            raise ReloadRunningError("another reload is under way; try again when it has ended")
        previous = self.current
        wanted = self._path if path is None else path
        self._reloading = True
        try:
            model = await asyncio.to_thread(
                load_model, wanted, previous.generation + 1, self._config.max_tokens
            )
            if model.bundle == previous.bundle:
                return ReloadResult(previous, previous, changed=False)
            self._next = Crew(model, self._config, self, self._clock)
            await self._next.start()
            self._path = wanted
            return self._take_over(self._next)
        finally:
            self._next = None
            self._reloading = False

    def _add(self, crew: Crew) -> None:
        self._crews[crew.model.generation] = self._dispatch.crews[crew.model.generation] = crew

    def _take_over(self, crew: Crew) -> ReloadResult:
        self._add(crew)
        previous = self._leases.take_over(crew.model)
        self._statistics.reloads += 1
        _log.info(
            "model taken over generation=%d model=%s fingerprint=%s before=%s",
            *(crew.model.generation, crew.model.manifest.name),
            *(crew.model.manifest.fingerprint, previous.manifest.fingerprint),
        )
        self._update_liveness()
        self._dispatch.feed_all()
        return ReloadResult(previous, crew.model, changed=True)

    def submit(self, works: Sequence[Work]) -> None:
        """Queues texts, each for its model, and feeds idle processes."""
        self._dispatch.submit(works)

    def cancel(self, stream: int) -> None:
        """Drops a stream's texts: those that wait never reach the model, no outcome is delivered any more."""
        self._dispatch.cancel(stream)

    def process_free(self, crew: Crew, slot: Slot) -> None:
        """Puts a new process to work; called by the crew."""
        self._update_liveness()
        self._dispatch.feed(slot.number)

    def process_answered(self, crew: Crew, slot: Slot, answer: Answer) -> None:
        """Passes an answer on; called by the crew."""
        self._dispatch.answered(crew, slot.number, answer)

    def process_ended(self, crew: Crew, slot: Slot, end: End) -> None:
        """Has the process's run done again; called by the crew."""
        self._statistics.process_ended(end)
        self._update_liveness()
        self._dispatch.ended(crew, slot.number, end)

    def model_not_loaded(self, crew: Crew) -> None:
        """Gives up what waits for an old model that cannot come back; called by the crew."""
        if crew.model is not self.current and not crew.live:
            crew.hopeless = True
            give_up(crew, MODEL_GONE)

    def _retire(self, model: Model) -> None:
        if not self._stopping:
            self._watch(self._end(self._crews[model.generation]))

    async def _end(self, crew: Crew) -> None:
        """Ends a model's processes; its slots compute nothing else before they are gone."""
        await crew.stop()
        del self._crews[crew.model.generation]
        self._dispatch.remove(crew.model.generation)
        _log.info("model retired generation=%d", crew.model.generation)

    def _update_liveness(self) -> None:
        live = self._started and self._crews[self.current.generation].live
        if live != self._live:
            self._live = live
            self._live_changed = self._clock.now()
            self._on_liveness(live)

    async def _look_after(self) -> None:
        while True:
            await asyncio.sleep(self._watch_seconds)
            now = self._clock.tick()
            for crew in [*self._crews.values(), *([self._next] if self._next is not None else [])]:
                crew.look_after(now)
            if not self._live and now - self._live_changed > self._config.start_seconds:
                for crew in self._crews.values():
                    give_up(crew, "no process of the pool has lived for a long time; see the server's log")

    def _watch(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._unwatch)

    def _unwatch(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("pool task failed error=%r", error)
