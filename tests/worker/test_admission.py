"""Who is let in: bytes, expected waits, and when to come back."""

from contextlib import ExitStack

import hypothesis.strategies as st
import pytest
from hypothesis import given

from worker.errors import OverloadError
from worker.scheduling.admission import Admission, Admitted, Speed, Waiting

LONGEST = 512
NOBODY = Waiting(0, bulk=False)


def admission(*, max_bytes: int = 1000, max_wait: float = 2.0, speed: int = 100) -> Admission:
    """Makes one of two processes; each computes `speed` tokens a second, 0 for an unknown number."""
    made = Admission(max_bytes, max_wait, processes=2, bulk_share=0.5)
    if speed:
        made.measured(speed, 1.0)
    return made


def let_in(made: Admission, open_: ExitStack, *, cost: int = 1, waiting: Waiting = NOBODY) -> Admitted:
    """Lets a query of ten tokens in until the stack is closed."""
    return open_.enter_context(made.admitted(40, cost, waiting, LONGEST))


def test_bytes_are_bounded_and_given_back() -> None:
    """Queries in flight hold at most the limit; what one held is free when it ends."""
    made = admission()
    with ExitStack() as queries:
        let_in(made, queries, cost=600)
        let_in(made, queries, cost=400)
        with pytest.raises(
            OverloadError, match=r"hold 1000 bytes, this one needs 1 more, the limit .* is 1000"
        ):
            let_in(made, queries, cost=1)
        assert made.bytes == 1000
    assert made.bytes == 0
    with ExitStack() as queries:
        let_in(made, queries, cost=5000)  # alone it may be of any size
        with pytest.raises(OverloadError):
            let_in(made, queries, cost=1)


def test_windows_are_paid_for_when_they_are_known() -> None:
    """What tokenizing finds is held too, or the query is refused and gives everything back."""
    made = admission()
    with ExitStack() as queries:
        first = let_in(made, queries, cost=100)
        second = let_in(made, queries, cost=100)
        first.hold(700)
        with pytest.raises(OverloadError, match="this one needs 200 more"):
            second.hold(200)
        assert made.bytes == 900
    assert made.bytes == 0
    with ExitStack() as queries:
        let_in(made, queries, cost=100).hold(10_000)


def test_long_waits_are_refused_with_the_time_to_come_back() -> None:
    """Two processes of 100 tokens a second have 2 s of work in 400 tokens; half of that is left after 1 s."""
    made = admission()
    with ExitStack() as queries:
        for _ in range(2):
            let_in(made, queries)
        # On the way are 20 tokens: 380 more are 2 s, one more is too many.
        let_in(made, queries, waiting=Waiting(380, bulk=False))
        with pytest.raises(
            OverloadError, match=r"wait about 2\.1 s .* max_query_wait_seconds is 2"
        ) as caught:
            let_in(made, queries, waiting=Waiting(390, bulk=False))
        assert caught.value.retry_after == pytest.approx(2.1 - 1.0)


def test_bulk_work_that_waits_has_its_share_of_the_speed() -> None:
    """With half of the tokens for waiting bulk work, queries wait twice as long."""
    made = admission(max_wait=1000)
    with ExitStack() as queries:
        let_in(made, queries).queued()
        alone = made.expected_wait(Waiting(200, bulk=False), 10, LONGEST)
        assert alone == pytest.approx(1.0)
        assert made.expected_wait(Waiting(200, bulk=True), 10, LONGEST) == pytest.approx(2 * alone)


def test_one_large_query_keeps_nobody_out() -> None:
    """Queries share fairly: a million tokens of one of them delay another by its own tokens and a run."""
    made = admission(max_wait=10)
    with ExitStack() as queries:
        let_in(made, queries).queued()
        ahead = Waiting(1_000_000, bulk=False)
        assert made.expected_wait(ahead, 10, LONGEST) == pytest.approx((10 + LONGEST) / 200)
        let_in(made, queries, waiting=ahead)


def test_nothing_is_refused_before_the_speed_is_known() -> None:
    """Without a measurement there is no estimate: queries are let in."""
    made = admission(speed=0)
    with ExitStack() as queries:
        let_in(made, queries).queued()
        let_in(made, queries, waiting=Waiting(10**9, bulk=True))


@given(
    st.lists(
        st.tuples(st.integers(1, 10_000), st.floats(0.001, 10, allow_subnormal=False)),
        min_size=1,
        max_size=50,
    )
)
def test_speed_is_between_the_slowest_and_the_fastest(runs: list[tuple[int, float]]) -> None:
    """The mean lies between the extremes of what was measured."""
    speed = Speed()
    for tokens, seconds in runs:
        speed.measured(tokens, seconds)
    rates = [tokens / seconds for tokens, seconds in runs]
    assert speed.tokens_per_second is not None
    assert min(rates) * 0.999 <= speed.tokens_per_second <= max(rates) * 1.001


def test_speed_forgets() -> None:
    """After a minute of other runs the old ones count for next to nothing."""
    speed = Speed()
    speed.measured(1_000_000, 10.0)
    for _ in range(600):
        speed.measured(10, 0.1)
    assert speed.tokens_per_second == pytest.approx(100, rel=0.05)
