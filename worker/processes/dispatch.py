"""From waiting texts to runs, and from answers to whoever waits for them.

Guarantees: a slot computes one run at a time, also while two models have a process in it; a text is computed
by its own model; each text is delivered exactly once, unless its stream was cancelled; what a process that
ended had to compute is computed again. No threads and no I/O here; assumes one event loop.
"""

import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Protocol

from worker.errors import ModelError, PoisonError, UnavailableError
from worker.processes.frames import Answer
from worker.scheduling.scheduler import Priority, Scheduler
from worker.scheduling.turns import Turns
from worker.scheduling.work import Work
from worker.statistics import End, Statistics

MODEL_GONE = (
    "the model that this text was accepted for ended, and its files have changed since; send it again"
)
# Ends that say something of the text that was computed.
_BLAMED = frozenset({End.CRASHED, End.STUCK})


class Crew(Protocol):
    """The processes of one model, one in each slot: `worker.processes.crew.Crew`."""

    scheduler: Scheduler[Work]
    hopeless: bool

    def is_free(self, number: int) -> bool:
        """Returns whether the process in a slot takes a run."""

    def run(self, number: int, works: Sequence[Work]) -> None:
        """Sends a run to the process in a slot."""


class Dispatch:
    """Feeds the slots of a pool.

    Args:
        slots: How many there are.
        statistics: Counts runs and waits.

    Attributes:
        crews: Who computes, by the generation of the model.
        stopped: Whether no run is sent any more.
    """

    def __init__(self, slots: int, statistics: Statistics) -> None:
        self.crews: dict[int, Crew] = {}
        self.stopped = False
        self._slots = slots
        self._statistics = statistics
        self._turns = Turns()
        self._busy: dict[int, tuple[Crew, Priority]] = {}

    def waiting(self, priority: Priority) -> int:
        """Returns how many texts of a class wait for a process."""
        return sum(crew.scheduler.waiting(priority) for crew in self.crews.values())

    def waiting_tokens(self, priority: Priority) -> int:
        """Returns the tokens of a class's texts that wait for a process."""
        return sum(crew.scheduler.waiting_tokens(priority) for crew in self.crews.values())

    def submit(self, works: Sequence[Work]) -> None:
        """Queues texts, each for its model, and feeds idle processes."""
        now = time.perf_counter_ns()
        for_model: defaultdict[int, list[Work]] = defaultdict(list)
        for work in works:
            work.queued_ns = now
            for_model[work.model.generation].append(work)
        for generation, its in for_model.items():
            if (crew := self.crews.get(generation)) is None or crew.hopeless:
                for work in its:
                    work.sink.fail(work.row, UnavailableError(MODEL_GONE))
            else:
                crew.scheduler.submit(its)
        self.feed_all()

    def cancel(self, stream: int) -> None:
        """Drops a stream's texts: those that wait never reach the model, no outcome is delivered any more."""
        for crew in self.crews.values():
            crew.scheduler.cancel(stream)

    def feed_all(self) -> None:
        """Sends a run to each idle process that there is work for."""
        for number in range(self._slots):
            self.feed(number)

    def feed(self, number: int) -> None:
        """Sends a run to a process of the slot, if none of them has one."""
        if number in self._busy or self.stopped:
            return
        queries = {
            generation: crew.scheduler.waiting(Priority.QUERY) > 0
            for generation, crew in self.crews.items()
            if crew.is_free(number) and any(map(crew.scheduler.waiting, Priority))
        }
        for generation in self._turns.order(queries)[:1]:
            self._turns.went(generation, queries)
            self._send(self.crews[generation], number)

    def answered(self, crew: Crew, number: int, answer: Answer) -> None:
        """Feeds the slot its next run, then delivers the outcome of the last."""
        works = crew.scheduler.finish(number)
        _, priority = self._busy.pop(number)
        self._statistics.ran(priority, answer.run_ns / 1e9)
        self.feed(number)
        share_ns = answer.run_ns // len(works)
        for row, work in enumerate(works):
            if work is None:
                continue
            if (failure := answer.failures.get(row)) is not None:
                work.sink.fail(work.row, ModelError(f"{failure.doing}: {failure.message}"))
            else:
                work.sink.deliver(work.row, answer.vectors[row], work.sent_ns - work.queued_ns, share_ns)

    def ended(self, crew: Crew, number: int, end: End) -> None:
        """Hands back the run of a process that ended, if it had one, and feeds whoever is idle."""
        if number in self._busy and self._busy[number][0] is crew:
            del self._busy[number]
            for work in crew.scheduler.died(number, blamed=end in _BLAMED):
                ended = work.deaths + work.kills
                reason = f"computing this text of {work.tokens} tokens ended {ended} processes"
                work.sink.fail(work.row, PoisonError(reason))
        self.feed_all()

    def remove(self, generation: int) -> None:
        """Forgets a crew whose processes have ended; its slots are free for the others."""
        crew = self.crews.pop(generation)
        self._busy = {number: run for number, run in self._busy.items() if run[0] is not crew}
        give_up(crew, MODEL_GONE)
        self.feed_all()

    def _send(self, crew: Crew, number: int) -> None:
        works = crew.scheduler.start(number)
        self._busy[number] = (crew, works[0].priority)
        now = time.perf_counter_ns()
        for work in works:
            work.sent_ns = now
            self._statistics.waited(work.priority, (now - work.queued_ns) / 1e9)
        crew.run(number, works)


def give_up(crew: Crew, reason: str) -> None:
    """Delivers all texts of a crew as unavailable."""
    for work in crew.scheduler.give_up():
        work.sink.fail(work.row, UnavailableError(reason))
