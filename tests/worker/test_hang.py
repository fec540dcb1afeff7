"""When a process is held to be stuck."""

import pytest

from worker.processes.hang import Clock, Deadlines, Vigil
from worker.processes.lifecycle import State

DEADLINES = Deadlines(start=100.0, run=60.0, hang=5.0)


@pytest.mark.parametrize("state", [State.STARTING, State.RUNNING])
def test_computing_takes_cpu_time(state: State) -> None:
    """A process that computes is fine while its CPU time grows, and stuck when it stays for too long."""
    vigil = Vigil(DEADLINES, 0.0)
    for second in range(50):
        assert not vigil.stuck(state, second // 4, float(second))
    assert not vigil.stuck(state, 12, 52.0)
    assert "no CPU time for 5.5 s" in vigil.stuck(state, 12, 53.5)


@pytest.mark.parametrize(("state", "limit"), [(State.STARTING, 100), (State.RUNNING, 60)])
def test_computing_for_ever_ends(state: State, limit: int) -> None:
    """CPU time alone is no progress: each state that computes has a limit."""
    vigil = Vigil(DEADLINES, 0.0)
    verdicts = [bool(vigil.stuck(state, second, float(second))) for second in range(limit + 3)]
    assert verdicts.index(True) == limit + 1


def test_idle_processes_answer_pings() -> None:
    """An idle process may use no CPU time for ever, but must answer."""
    vigil = Vigil(DEADLINES, 0.0)
    assert not vigil.stuck(State.IDLE, 7, 1000.0)
    vigil.ping(1000.0)
    assert vigil.pinged
    assert not vigil.stuck(State.IDLE, 7, 1005.0)
    assert "no ping" in vigil.stuck(State.IDLE, 7, 1005.5)
    vigil.pong()
    assert not vigil.stuck(State.IDLE, 7, 1005.5)


def test_each_state_is_watched_anew() -> None:
    """What a process did in one state is not held against it in the next."""
    vigil = Vigil(DEADLINES, 0.0)
    vigil.stuck(State.RUNNING, 1, 4.0)
    vigil.begin(50.0)
    assert not vigil.stuck(State.RUNNING, 1, 54.0)


def test_time_in_which_nobody_watched_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that slept for an hour wakes up with no process held to hang."""
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    clock = Clock(step=2.0)
    start = clock.now()
    for step in (1.0, 1.5, 3600.0, 1.0):
        now[0] += step
        clock.tick()
    assert clock.now() - start == pytest.approx(1.0 + 1.5 + 2.0 + 1.0)
