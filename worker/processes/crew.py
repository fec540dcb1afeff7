"""The processes of one model: a zygote, and one process in each slot that it forks again when it ends.

Guarantees: the owner is told of each process that becomes free, and after `start` of each that ended; nothing
is told after `stop` began. A zygote that ends takes no process along: they serve on while the next one loads.
Assumes one event loop.
"""

import asyncio
import contextlib
import logging
from collections.abc import Coroutine, Sequence
from typing import Any, Protocol

from worker.errors import ModelError
from worker.models import Model
from worker.processes.child import Child
from worker.processes.forker import Forker
from worker.processes.frames import Answer
from worker.processes.hang import Clock, Deadlines
from worker.processes.lifecycle import LIVE, Event, restart_delay
from worker.processes.procfs import cpu_ticks
from worker.processes.slot import ProcessView, Slot
from worker.scheduling.scheduler import Scheduler
from worker.scheduling.work import Work
from worker.settings.config import ServeConfig
from worker.statistics import End

_log = logging.getLogger(__name__)


class CrewOwner(Protocol):
    """Who feeds a crew."""

    def process_free(self, crew: "Crew", slot: Slot) -> None:
        """A new process takes a run."""

    def process_answered(self, crew: "Crew", slot: Slot, answer: Answer) -> None:
        """A process answered its run and takes the next."""

    def process_ended(self, crew: "Crew", slot: Slot, end: End) -> None:
        """A process ended; its run has no answer."""

    def model_not_loaded(self, crew: "Crew") -> None:
        """The zygote ended and another one could not be started; it is tried again."""


class Crew:
    """The processes of one model.

    Args:
        model: What they compute with.
        config: How many they are, and their deadlines.
        owner: Who feeds them.
        clock: Tells the time to those who watch them.

    Attributes:
        model: What they compute with.
        scheduler: The texts that are for this model.
        slots: One place for each process.
        hopeless: Whether it was given up: it has no process and gets none.
    """

    def __init__(self, model: Model, config: ServeConfig, owner: CrewOwner, clock: Clock) -> None:
        self.model = model
        self.scheduler = Scheduler[Work](config.max_run_tokens, bulk_share=config.bulk_share)
        deadlines = Deadlines(config.start_seconds, config.run_seconds, config.hang_seconds)
        self.slots = [Slot(number, pin, deadlines, clock) for number, pin in enumerate(config.pins)]
        self.hopeless = False
        self._config = config
        self._owner = owner
        self._clock = clock
        self._forker = Forker(model, self._forker_lost)
        self._loaded = asyncio.Event()
        self._losses_in_a_row = 0
        self._forker_pinged = 0.0
        self._started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False

    @property
    def live(self) -> bool:
        """Whether a process of it can compute."""
        return any(slot.state in LIVE for slot in self.slots)

    def views(self) -> list[ProcessView]:
        """Returns what is to be told of its processes."""
        return [slot.view(self.model.generation) for slot in self.slots]

    async def start(self) -> None:
        """Loads the model and starts all processes; returns when each has checked itself.

        Raises:
            ModelError: One could not; nothing is left of the others.
        """
        try:
            await self._load()
            for slot in self.slots:
                self._spawn(slot)
            await asyncio.shield(self._started)
        except BaseException:  # a cancellation too
            await self.stop()
            raise

    async def stop(self) -> None:
        """Ends all processes at once, with what they compute."""
        self._stopping = True
        if not self._started.done():
            self._fail_start("the processes were stopped")
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        children = [slot.child for slot in self.slots if slot.child is not None]
        for slot in self.slots:
            slot.move(Event.STOP)
        for child in children:
            child.kill(End.KILLED)
        await self._forker.stop()
        await asyncio.gather(*(child.wait() for child in children))

    def is_free(self, number: int) -> bool:
        """Returns whether the process in a slot takes a run."""
        return self.slots[number].free

    def run(self, number: int, works: Sequence[Work]) -> None:
        """Sends a run to the process in a slot, which is free."""
        slot = self.slots[number]
        if slot.child is None:
            raise RuntimeError(f"slot {slot.number} has no process")
        slot.move(Event.SENT)
        # They are of one stream, and so were asked for alike.
        slot.child.run([work.ids for work in works], alone=not works[0].stackable)

    def look_after(self, now: float) -> None:
        """Ends what is stuck and pings what is idle.

        Args:
            now: The time by the crew's clock.
        """
        for slot in self.slots:
            if slot.child is not None and slot.child.pid:
                self._look_after_process(slot, slot.child, now)
        if not self._forker.alive or not self._loaded.is_set():
            return
        if not self._forker.pinged:
            self._forker_pinged = now
            self._forker.ping()
        elif now - self._forker_pinged > self._config.hang_seconds:
            _log.error("zygote stuck pid=%d seconds=%.1f", self._forker.pid, now - self._forker_pinged)
            self._forker.kill()

    def _look_after_process(self, slot: Slot, child: Child, now: float) -> None:
        ticks = 0
        with contextlib.suppress(OSError):  # it ended this moment, and that is told another way
            ticks = cpu_ticks(child.pid)
        if reason := slot.vigil.stuck(slot.state, ticks, now):
            _log.error("process stuck slot=%d pid=%d why=%r", slot.number, child.pid, reason)
            child.kill(End.STUCK)
        elif slot.free and not slot.vigil.pinged:
            slot.vigil.ping(now)
            child.ping()

    def child_ready(self, child: Child) -> None:
        """Puts a process to work; called by the child."""
        if self._stopping:
            return
        slot = self.slots[child.slot]
        slot.move(Event.READY)
        _log.info("process ready slot=%d pid=%d generation=%d", slot.number, child.pid, self.model.generation)
        if not self._started.done() and all(other.state in LIVE for other in self.slots):
            self._started.set_result(None)
        self._owner.process_free(self, slot)

    def child_answered(self, child: Child, answer: Answer) -> None:
        """Passes an answer on; called by the child."""
        if self._stopping:
            return
        slot = self.slots[child.slot]
        slot.ends_in_a_row = self._losses_in_a_row = 0
        slot.runs += 1
        slot.move(Event.ANSWERED)
        self._owner.process_answered(self, slot, answer)

    def child_ponged(self, child: Child) -> None:
        """Notes a sign of life; called by the child."""
        self.slots[child.slot].vigil.pong()

    def child_gone(self, child: Child, end: End, reason: str) -> None:
        """Has a process replaced; called by the child."""
        if self._stopping:
            return
        if not self._started.done():
            self._fail_start(f"a compute process {reason}")
            return
        slot = self.slots[child.slot]
        slot.child = None
        slot.ends_in_a_row += 1
        slot.move(Event.ENDED)
        delay = restart_delay(slot.ends_in_a_row)
        _log.warning(
            "process gone slot=%d pid=%d end=%s replaced_in_s=%.2f why=%r",
            *(slot.number, child.pid, end.value.replace(" ", "_"), delay, reason),
        )
        self._watch(self._replace(slot, delay))
        self._owner.process_ended(self, slot, end)

    async def _replace(self, slot: Slot, delay: float) -> None:
        await asyncio.sleep(delay)
        await self._loaded.wait()
        slot.restarts += 1
        slot.move(Event.DUE)
        self._spawn(slot)

    def _spawn(self, slot: Slot) -> None:
        slot.child = Child(slot.number, self)
        self._watch(self._start(slot, slot.child))

    async def _start(self, slot: Slot, child: Child) -> None:
        try:
            await child.start(self._forker, slot.pin)
        except OSError as error:
            self.child_gone(child, End.FAILED_TO_LOAD, f"could not be started: {error}")

    async def _load(self) -> None:
        """Starts a zygote.

        Raises:
            ModelError: It could not load the model.
        """
        await self._forker.start(self._config.start_seconds)
        if not self._forker.alive:  # it ended between its word and our turn
            raise ModelError("the process that loads the model ended")
        _log.info("model loaded generation=%d pid=%d", self.model.generation, self._forker.pid)
        self._loaded.set()

    def _forker_lost(self, forker: Forker, reason: str) -> None:
        if self._stopping:
            return
        self._loaded.clear()
        self._losses_in_a_row += 1
        _log.warning("zygote gone pid=%d generation=%d why=%r", forker.pid, self.model.generation, reason)
        if self._started.done():
            self._watch(self._load_again())
        else:
            self._fail_start(f"the process that loads the model {reason}")

    async def _load_again(self) -> None:
        while not self._loaded.is_set():
            delay = restart_delay(self._losses_in_a_row)
            await asyncio.sleep(delay)
            self._forker = Forker(self.model, self._forker_lost)
            try:
                await self._load()
            except ModelError as error:
                self._losses_in_a_row += 1
                _log.error("model not loaded generation=%d why=%r", self.model.generation, str(error))
                self._owner.model_not_loaded(self)

    def _fail_start(self, reason: str) -> None:
        if not self._started.done():
            self._started.set_exception(ModelError(reason))
            self._started.exception()  # nobody may wait for it yet

    def _watch(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._unwatch)

    def _unwatch(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("crew task failed error=%r", error)
