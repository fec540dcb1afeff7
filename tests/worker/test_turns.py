"""Two models, one pool: who goes first, and that both come to their end."""

import hypothesis.strategies as st
from hypothesis import given

from worker.scheduling.turns import MAX_PASSES, Turns

waiting = st.dictionaries(st.integers(1, 4), st.booleans(), min_size=1)


@given(st.lists(waiting, max_size=60))
def test_nobody_is_passed_over_for_long(history: list[dict[int, bool]]) -> None:
    """Work that waits is passed over so many times at the most, and once for each that waited longer."""
    turns = Turns()
    passes: dict[int, int] = {}
    for queries in history:
        order = turns.order(queries)
        assert sorted(order) == sorted(queries)
        turns.went(order[0], queries)
        passes[order[0]] = 0
        for other in order[1:]:
            passes[other] = passes.get(other, 0) + 1
        assert max(passes.values()) <= MAX_PASSES + 3


def test_queries_first_then_the_older() -> None:
    """Queries of either model go before bulk work of either."""
    assert Turns().order({1: False, 2: True}) == [2, 1]
    assert Turns().order({2: True, 1: True}) == [1, 2]
    assert Turns().order({2: False, 1: False}) == [1, 2]


def test_endless_queries_do_not_keep_the_old_model() -> None:
    """Bulk work of the old model goes although queries of the new one never end."""
    turns = Turns()
    went = []
    for _ in range(2 * (MAX_PASSES + 1)):
        went.append(turns.order({1: False, 2: True})[0])
        turns.went(went[-1], {1: False, 2: True})
    assert went == 2 * ([2] * MAX_PASSES + [1])
