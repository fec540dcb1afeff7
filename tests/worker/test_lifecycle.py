"""The life of a slot."""

import pytest

from worker.processes.lifecycle import LIVE, Event, State, after, restart_delay


def test_life_of_a_process_that_serves_dies_and_is_replaced() -> None:
    """Start, serve, end while running, wait, start again."""
    state = State.STARTING
    for event, expected in (
        (Event.READY, State.IDLE),
        (Event.SENT, State.RUNNING),
        (Event.ANSWERED, State.IDLE),
        (Event.SENT, State.RUNNING),
        (Event.ENDED, State.WAITING),
        (Event.DUE, State.STARTING),
        (Event.ENDED, State.WAITING),
    ):
        state = after(state, event)
        assert state is expected
    assert State.WAITING not in LIVE


@pytest.mark.parametrize("state", State)
def test_every_state_can_be_stopped(state: State) -> None:
    """The pool can end at any moment."""
    assert after(state, Event.STOP) is State.STOPPED


@pytest.mark.parametrize(
    ("state", "event"),
    [(State.STARTING, Event.SENT), (State.RUNNING, Event.SENT), (State.WAITING, Event.READY)],
)
def test_what_cannot_happen_is_an_error(state: State, event: Event) -> None:
    """A run is never sent to a process that has one, or none that is loaded."""
    with pytest.raises(ValueError, match="cannot happen"):
        after(state, event)


def test_crash_loops_slow_down() -> None:
    """The first replacement is immediate, later ones wait longer and longer, up to a limit."""
    delays = [restart_delay(ends) for ends in range(1, 200)]
    assert delays[0] == 0
    assert delays == sorted(delays)
    assert delays[-1] == 10
