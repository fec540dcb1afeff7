"""The life of a process slot, as a table, and how long to wait before a process is replaced.

Pure: no clock, no processes here.
"""

from enum import Enum

# Seconds before the second replacement in a row; doubles from there. Arbitrary: about what loading takes.
_FIRST_DELAY = 0.25
# Longest wait between two replacements, in seconds: a crash loop must not take its neighbours' CPU, and its
# end must not stay unnoticed.
_LONGEST_DELAY = 10.0


class State(Enum):
    """Where a slot is."""

    STARTING = "starting"  # its process is forked and checks itself
    IDLE = "idle"
    RUNNING = "running"
    WAITING = "waiting"  # it has no process; one starts after a delay
    STOPPED = "stopped"


class Event(Enum):
    """What happens to a slot."""

    READY = "ready"
    SENT = "sent"  # a run
    ANSWERED = "answered"
    ENDED = "ended"  # the process
    DUE = "due"  # the delay is over
    STOP = "stop"


_TABLE: dict[State, dict[Event, State]] = {
    State.STARTING: {Event.READY: State.IDLE, Event.ENDED: State.WAITING, Event.STOP: State.STOPPED},
    State.IDLE: {Event.SENT: State.RUNNING, Event.ENDED: State.WAITING, Event.STOP: State.STOPPED},
    State.RUNNING: {Event.ANSWERED: State.IDLE, Event.ENDED: State.WAITING, Event.STOP: State.STOPPED},
    State.WAITING: {Event.DUE: State.STARTING, Event.STOP: State.STOPPED},
    State.STOPPED: {Event.ENDED: State.STOPPED, Event.STOP: State.STOPPED},
}

LIVE = frozenset({State.IDLE, State.RUNNING})


def after(state: State, event: Event) -> State:
    """Returns the state that follows.

    Raises:
        ValueError: The event cannot happen in that state.
    """
    try:
        return _TABLE[state][event]
    except KeyError:
        raise ValueError(f"{event} cannot happen to a slot that is {state}") from None


def restart_delay(ends_in_a_row: int) -> float:
    """Returns the seconds to wait before the next process, after so many that ended without an answer."""
    if ends_in_a_row <= 1:
        return 0.0
    return min(_LONGEST_DELAY, _FIRST_DELAY * 2.0 ** min(ends_in_a_row - 2, 16))
