"""A place for one process of a model: its state, its counts, its watch."""

from dataclasses import dataclass

from worker.processes.child import Child
from worker.processes.hang import Clock, Deadlines, Vigil
from worker.processes.lifecycle import Event, State, after


@dataclass(frozen=True)
class ProcessView:
    """What is to be told of a slot.

    Attributes:
        slot: Its number.
        pid: Its process; 0 where none is.
        state: Where it is.
        runs: Runs that its processes answered.
        restarts: Processes that it had after the first.
        generation: The model that it computes with; while one takes over from another a slot has two.
    """

    slot: int
    pid: int
    state: State
    runs: int
    restarts: int
    generation: int


class Slot:
    """One place.

    Args:
        number: The pool's number for it.
        pin: CPU of its processes; None to float.
        deadlines: When a process is stuck.
        clock: Tells the time to its watch.

    Attributes:
        state: Where it is.
        child: Its process, if any.
        ends_in_a_row: Processes that ended since the last answer.
        runs: Runs answered.
        restarts: Processes after the first.
    """

    def __init__(self, number: int, pin: int | None, deadlines: Deadlines, clock: Clock) -> None:
        self.number = number
        self.pin = pin
        self.state = State.STARTING
        self.child: Child | None = None
        self.ends_in_a_row = 0
        self.runs = 0
        self.restarts = 0
        self.vigil = Vigil(deadlines, clock.now())
        self._clock = clock

    @property
    def free(self) -> bool:
        """Whether it takes a run."""
        return self.state is State.IDLE and self.child is not None and not self.child.lost

    def move(self, event: Event) -> None:
        """Enters the state that follows.

        Raises:
            ValueError: The event cannot happen here.
        """
        self.state = after(self.state, event)
        self.vigil.begin(self._clock.now())

    def view(self, generation: int) -> ProcessView:
        """Returns what is to be told of it."""
        pid = self.child.pid if self.child is not None else 0
        return ProcessView(self.number, pid, self.state, self.runs, self.restarts, generation)
