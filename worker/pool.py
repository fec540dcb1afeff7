"""The compute processes and the work that waits for them.

Guarantees: each submitted text is delivered exactly once, with a vector or an error, unless its stream was
cancelled; a process that ends is replaced and its run goes back to the scheduler. Assumes one event loop:
every method is called on it, nothing here blocks it.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from worker.child import Child
from worker.config import ServeConfig
from worker.errors import ModelError, PoisonError, UnavailableError
from worker.frames import Answer
from worker.lifecycle import LIVE, Event, State, after, restart_delay
from worker.models import Leases, Model
from worker.scheduler import Priority, Scheduler
from worker.statistics import Statistics
from worker.work import Work

_log = logging.getLogger(__name__)

# Seconds between two looks for stuck processes; arbitrary, small against the deadlines looked after.
_WATCH_SECONDS = 1.0


@dataclass(eq=False)
class _Slot:
    """A place for one process."""

    number: int
    pin: int | None
    state: State
    child: Child | None = None
    since: float = 0.0  # when the state began, monotonic seconds
    ends_in_a_row: int = 0


class Pool:
    """Starts, feeds, watches and replaces compute processes.

    Args:
        model: What each process loads.
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
        self._leases = Leases(model, lambda unused: None)
        self._statistics = statistics
        self._config = config
        self._on_liveness = on_liveness
        self._scheduler = Scheduler[Work](config.max_run_tokens, bulk_share=config.bulk_share)
        self._slots = [_Slot(number, pin, State.STARTING) for number, pin in enumerate(config.pins)]
        self._idle: list[_Slot] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._deadlines = {State.STARTING: config.start_seconds, State.RUNNING: config.run_seconds}
        self._live = False
        self._live_changed = time.monotonic()
        self._stopping = False

    @property
    def current(self) -> Model:
        """The model that new work is for."""
        return self._leases.current

    def lease(self) -> AbstractContextManager[Model]:
        """Returns a lease of the current model: its processes stay until the lease is returned."""
        return self._leases.lease()

    def waiting(self, priority: Priority) -> int:
        """Returns how many texts of a class wait for a process."""
        return self._scheduler.waiting(priority)

    @property
    def live(self) -> bool:
        """Whether the pool has started and a process of it can compute."""
        return self._live

    async def start(self) -> None:
        """Starts all processes and waits until each has loaded the model.

        Raises:
            ModelError: A process could not; the others are stopped.
        """
        for slot in self._slots:
            self._spawn(slot)
        self._watch(asyncio.create_task(self._look_after()))
        try:
            await asyncio.shield(self._started)
        except ModelError:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Ends all processes; what waits is delivered as unavailable."""
        self._stopping = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        children = [slot.child for slot in self._slots if slot.child is not None]
        for slot in self._slots:
            self._move(slot, Event.STOP)
        await asyncio.gather(*(child.stop() for child in children))
        self._give_up("the pool stopped before this text was computed")

    def submit(self, works: Sequence[Work]) -> None:
        """Queues texts and feeds idle processes."""
        now = time.perf_counter_ns()
        for work in works:
            work.queued_ns = now
        self._scheduler.submit(works)
        while self._idle and self._feed(self._idle[-1]):
            self._idle.pop()

    def cancel(self, stream: int) -> None:
        """Drops a stream's texts: those that wait never reach the model, no outcome is delivered any more."""
        self._scheduler.cancel(stream)

    def child_ready(self, child: Child, fingerprint: str) -> None:
        """Puts a loaded process to work; called by the child."""
        if self._stopping:
            return
        slot = self._slots[child.slot]
        expected = self.current.bundle.manifest.fingerprint
        if fingerprint != expected:
            _log.error("process %d loaded model %s, the pool serves %s", child.pid, fingerprint, expected)
            child.kill()
            return
        self._move(slot, Event.READY)
        _log.info("process ready slot=%d pid=%d", slot.number, child.pid)
        if not self._started.done() and all(other.state in LIVE for other in self._slots):
            self._started.set_result(None)
        self._update_liveness()
        if not self._feed(slot):
            self._idle.append(slot)

    def child_answered(self, child: Child, answer: Answer) -> None:
        """Feeds the process its next run, then delivers the outcome of the last; called by the child."""
        if self._stopping:
            return
        slot = self._slots[child.slot]
        works = self._scheduler.finish(slot.number)
        slot.ends_in_a_row = 0
        self._move(slot, Event.ANSWERED)
        if not self._feed(slot):
            self._idle.append(slot)
        share_ns = answer.run_ns // len(works)
        for row, work in enumerate(works):
            if work is None:
                continue
            if (failure := answer.failures.get(row)) is not None:
                work.sink.fail(work.row, ModelError(f"{failure.doing}: {failure.message}"))
            else:
                work.sink.deliver(work.row, answer.vectors[row], work.sent_ns - work.queued_ns, share_ns)

    def child_lost(self, child: Child) -> None:
        """Sends no further run to a process that ends; called by the child."""
        slot = self._slots[child.slot]
        if slot in self._idle:
            self._idle.remove(slot)

    def child_gone(self, child: Child, reason: str) -> None:
        """Hands the process's run back and has the process replaced; called by the child."""
        slot = self._slots[child.slot]
        if self._stopping:
            return
        if not self._started.done():
            self._started.set_exception(ModelError(f"a compute process {reason}"))
            return
        slot.child = None
        slot.ends_in_a_row += 1
        self._move(slot, Event.ENDED)
        delay = restart_delay(slot.ends_in_a_row)
        _log.warning(
            "process gone slot=%d pid=%d replaced_in_s=%.2f why=%r", slot.number, child.pid, delay, reason
        )
        for work in self._scheduler.died(slot.number):
            work.sink.fail(
                work.row,
                PoisonError(f"computing this text of {work.tokens} tokens ended {work.deaths} processes"),
            )
        self._update_liveness()
        self._watch(asyncio.create_task(self._replace(slot, delay)))
        self.submit(())

    async def _replace(self, slot: _Slot, delay: float) -> None:
        await asyncio.sleep(delay)
        self._move(slot, Event.DUE)
        self._spawn(slot)

    def _spawn(self, slot: _Slot) -> None:
        slot.child = Child(slot.number, self)
        slot.since = time.monotonic()
        self._watch(asyncio.create_task(self._start(slot, slot.child)))

    async def _start(self, slot: _Slot, child: Child) -> None:
        try:
            await child.start(self.current.bundle.path, slot.pin)
        except OSError as error:
            self.child_gone(child, f"could not be started: {error}")

    def _feed(self, slot: _Slot) -> bool:
        if slot.child is None or not (works := self._scheduler.start(slot.number)):
            return False
        self._move(slot, Event.SENT)
        now = time.perf_counter_ns()
        for work in works:
            work.sent_ns = now
        slot.child.run([work.ids for work in works])
        return True

    def _move(self, slot: _Slot, event: Event) -> None:
        slot.state = after(slot.state, event)
        slot.since = time.monotonic()

    def _update_liveness(self) -> None:
        live = self._started.done() and any(slot.state in LIVE for slot in self._slots)
        if live != self._live:
            self._live = live
            self._live_changed = time.monotonic()
            self._on_liveness(live)

    async def _look_after(self) -> None:
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            now = time.monotonic()
            for slot in self._slots:
                self._end_stuck(slot, now - slot.since)
            if not self._live and now - self._live_changed > self._config.start_seconds:
                self._give_up("no process of the pool has lived for a long time; see the server's log")

    def _end_stuck(self, slot: _Slot, age: float) -> None:
        deadline = self._deadlines.get(slot.state)
        if slot.child is not None and deadline is not None and age > deadline:
            _log.error("process stuck state=%s slot=%d seconds=%.0f", slot.state.value, slot.number, age)
            slot.child.kill()

    def _give_up(self, reason: str) -> None:
        for work in self._scheduler.give_up():
            work.sink.fail(work.row, UnavailableError(reason))

    def _watch(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._unwatch)

    def _unwatch(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("pool task failed error=%r", error)
