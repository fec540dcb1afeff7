"""Patience and windows, with a clock of the test's own."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.client.flow import ByteBudget, Outage, forever, race
from indexer.errors import PoolError

# No subnormals: a session of onnxruntime that ran in this process before has switched them off.
steps_taken = st.tuples(st.floats(0, 3, allow_subnormal=False), st.floats(0, 0.999, allow_subnormal=False))


@given(st.lists(steps_taken, min_size=1, max_size=40), st.floats(1, 60, allow_subnormal=False))
def test_a_pool_is_given_up_only_after_its_time(steps: list[tuple[float, float]], limit: float) -> None:
    """Delays grow to a bound, never reach past the limit, and giving up comes no sooner than needed."""
    outage = Outage(limit)
    now = 0.0
    for lasted, jitter in steps:
        delay = outage.next_delay(now, 0.0, jitter)
        if delay is None:
            assert now > limit - 5.0
            return
        assert 0 < delay <= 5.0
        assert now + delay <= limit
        now += delay + lasted


def test_an_answer_ends_the_outage() -> None:
    """After an answer the patience is whole again and the delay is short again."""
    outage = Outage(10.0)
    delays = [outage.next_delay(now, 0.0, 0.5) for now in (0.0, 1.0, 2.0)]
    assert delays == sorted(delays, key=lambda delay: delay or 0)
    assert outage.lasts
    assert outage.end()
    assert not outage.lasts
    assert outage.next_delay(100.0, 0.0, 0.5) == delays[0]


def test_the_pool_says_how_long_to_wait() -> None:
    """RetryInfo of an overloaded pool is honoured, even if it exceeds our own delay."""
    assert Outage(60.0).next_delay(0.0, 7.0, 0.0) == 7.0


def test_bytes_in_flight_are_bounded() -> None:
    """No more bytes than the budget are held, but one text larger than all of it still passes."""

    async def check() -> None:
        budget = ByteBudget(10)
        await budget.take(6)
        waiting = asyncio.ensure_future(budget.take(5))
        await asyncio.wait([waiting], timeout=0.01)
        assert not waiting.done()
        await budget.give(6)
        await asyncio.wait_for(waiting, 5)
        await budget.give(5)
        await asyncio.wait_for(budget.take(99), 5)

    asyncio.run(check())


def test_a_race_ends_with_the_first_and_stops_the_rest() -> None:
    """The first failure is raised as it is, and nothing goes on in the background."""
    stopped: list[str] = []

    async def lasting() -> None:
        try:
            await forever()
        finally:
            stopped.append("lasting")

    async def failing() -> None:
        raise PoolError("gone")

    with pytest.raises(PoolError, match="gone"):
        asyncio.run(race(lasting(), failing()))
    assert stopped == ["lasting"]
