"""The scheduler's promises, over random histories and by example."""

from collections import Counter

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from worker.scheduler import MAX_DEATHS, MAX_QUERY_STREAK, Item, Priority, Scheduler

MAX_RUN_TOKENS = 64
SLOTS = 3

# Queries have even stream numbers, bulk streams odd ones, so that a stream has one class.
streams = st.integers(0, 5)
lengths = st.lists(st.sampled_from([1, 2, 8, 8, 8, 20, 31, 32, 33, 64, 65, 256]), min_size=1, max_size=12)


def item(stream: int, tokens: int) -> Item:
    """Makes an item of the stream's class."""
    return Item(stream, Priority.BULK if stream % 2 else Priority.QUERY, tokens)


class Histories(RuleBasedStateMachine):
    """Submits, runs, kills and cancels in any order, and keeps its own books."""

    @initialize(stack_equal=st.booleans())
    def begin(self, stack_equal: bool) -> None:
        """Begins with an empty scheduler."""
        self.scheduler = Scheduler[Item](MAX_RUN_TOKENS, stack_equal=stack_equal)
        self.waiting: list[Item] = []
        self.running: dict[int, list[Item]] = {}
        self.outcomes: Counter[int] = Counter()
        self.everything: list[Item] = []
        self.query_streak = 0

    @rule(stream=streams, tokens=lengths)
    def submit(self, stream: int, tokens: list[int]) -> None:
        """Adds items."""
        items = [item(stream, length) for length in tokens]
        self.scheduler.submit(items)
        self.waiting += items
        self.everything += items

    @rule(slot=st.integers(0, SLOTS - 1))
    def start(self, slot: int) -> None:
        """Hands out a run."""
        if slot in self.running:
            with pytest.raises(ValueError, match="has a run"):
                self.scheduler.start(slot)
            return
        bulk_waits = any(one.priority is Priority.BULK for one in self.waiting)
        queries_wait = any(one.priority is Priority.QUERY for one in self.waiting)
        run = self.scheduler.start(slot)
        assert bool(run) == bool(self.waiting)
        if not run:
            return
        self.check_run(run, queries_wait, bulk_waits)
        for one in run:
            self.waiting.remove(one)
        self.running[slot] = run

    def check_run(self, run: list[Item], queries_wait: bool, bulk_waits: bool) -> None:
        """Compares a run with the promises."""
        assert len({one.stream for one in run}) == 1
        assert len(run) == 1 or sum(one.tokens for one in run) <= MAX_RUN_TOKENS
        assert len(run) == 1 or all(one.deaths == 0 for one in run), "a suspect shares a run"
        if run[0].priority is Priority.BULK:
            assert not queries_wait or self.query_streak >= MAX_QUERY_STREAK, "bulk overtook a query"
            self.query_streak = 0
        else:
            self.query_streak = self.query_streak + 1 if bulk_waits else 0
            assert self.query_streak <= MAX_QUERY_STREAK, "bulk work starves"
        suspects = [one for one in self.waiting if one.deaths and one.priority is run[0].priority]
        assert not suspects or run[0].deaths, "a suspect does not go first"
        oldest = next(
            one for one in self.waiting if one.stream == run[0].stream and one.deaths == run[0].deaths
        )
        assert run[0] is oldest, "the oldest item of its stream is left behind"

    @rule(slot=st.integers(0, SLOTS - 1))
    def finish(self, slot: int) -> None:
        """A process answers."""
        if slot in self.running:
            outcome = self.scheduler.finish(slot)
            assert [one for one in outcome if one is not None] == self.running.pop(slot)
            self.count([one for one in outcome if one is not None])

    @rule(slot=st.integers(0, SLOTS - 1))
    def die(self, slot: int) -> None:
        """A process ends."""
        run = self.running.pop(slot, [])
        failed = self.scheduler.died(slot)
        assert failed == [one for one in run if one.deaths == MAX_DEATHS]
        self.count(failed)
        self.waiting += [one for one in run if one not in failed]
        assert self.scheduler.died(slot) == []

    @rule(stream=streams)
    def cancel(self, stream: int) -> None:
        """A caller leaves."""
        self.scheduler.cancel(stream)
        self.count([one for one in self.waiting if one.stream == stream])
        self.waiting = [one for one in self.waiting if one.stream != stream]
        for slot, run in self.running.items():
            self.count([one for one in run if one.stream == stream])
            self.running[slot] = [one for one in run if one.stream != stream]

    def count(self, items: list[Item]) -> None:
        """Notes outcomes."""
        self.outcomes.update(map(id, items))

    @invariant()
    def nothing_is_lost_or_counted_twice(self) -> None:
        """Every item waits, runs or has its one outcome."""
        for priority in Priority:
            mine = [one for one in self.waiting if one.priority is priority]
            assert self.scheduler.waiting(priority) == len(mine)
        inside = Counter(map(id, self.waiting))
        inside.update(id(one) for run in self.running.values() for one in run)
        assert inside + self.outcomes == Counter(map(id, self.everything))

    def teardown(self) -> None:
        """Whatever happened: when the processes go on, every item gets its outcome."""
        if not hasattr(self, "scheduler"):
            return
        for slot in list(self.running):
            self.finish(slot)
        for _ in range(len(self.waiting) + 1):
            self.start(0)
            self.finish(0)
        assert self.outcomes == Counter(map(id, self.everything))


Histories.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestHistories = Histories.TestCase


def scheduler(*items: Item, stack_equal: bool = False) -> Scheduler[Item]:
    """Makes a scheduler with waiting items."""
    made = Scheduler[Item](MAX_RUN_TOKENS, stack_equal=stack_equal)
    made.submit(items)
    return made


def run_all(made: Scheduler[Item]) -> list[list[Item]]:
    """Runs everything on one process."""
    runs = []
    while run := made.start(0):
        runs.append(run)
        made.finish(0)
    return runs


def test_query_goes_before_a_queue_of_bulk_work() -> None:
    """A query that comes while bulk work waits is in the very next run."""
    made = scheduler(*(item(1, 256) for _ in range(100)))
    made.start(0)
    query = item(0, 9)
    made.submit([query])
    assert made.start(1) == [query]


def test_bulk_streams_take_turns() -> None:
    """A stream with much work does not keep one with little from running."""
    made = scheduler(*(item(1, 256) for _ in range(10)), *(item(3, 256) for _ in range(2)))
    assert [run[0].stream for run in run_all(made)] == [1, 3, 1, 3, *[1] * 8]


def test_endless_queries_leave_bulk_work_its_share() -> None:
    """Under endless queries one run in MAX_QUERY_STREAK + 1 is bulk work."""
    made = scheduler(*(item(0, 9) for _ in range(1)), *(item(1, 256) for _ in range(5)))
    order = []
    for _ in range(3 * (MAX_QUERY_STREAK + 1)):
        made.submit([item(0, 60)])
        order.append(made.start(0)[0].priority)
        made.finish(0)
    assert order == [*[Priority.QUERY] * MAX_QUERY_STREAK, Priority.BULK] * 3


def test_equal_lengths_are_sought_first() -> None:
    """Where texts may share a tensor, a run is filled with the first text's length, then with what fits."""
    first, other, same, last = item(1, 20), item(1, 10), item(1, 20), item(1, 12)
    made = scheduler(first, other, same, last, stack_equal=True)
    assert made.start(0) == [first, same, other, last]


def test_order_is_kept_where_texts_run_alone() -> None:
    """Where no text may share a tensor, a run is a piece of the queue as it stands."""
    items = [item(1, 20), item(1, 40), item(1, 20), item(1, 20)]
    made = scheduler(*items)
    assert run_all(made) == [items[:2], items[2:]]


def test_only_the_guilty_text_of_a_run_fails() -> None:
    """When a run of several texts dies, each runs again alone: only the one that kills again fails."""
    texts = [item(1, 8) for _ in range(4)]
    made = scheduler(*texts)
    assert made.start(0) == texts
    assert made.died(0) == []
    assert made.start(1) == [texts[0]]
    made.finish(1)
    assert made.start(1) == [texts[1]]
    assert made.died(1) == [texts[1]]
    assert run_all(made) == [[texts[2]], [texts[3]]]


def test_cancelled_text_never_reaches_the_model() -> None:
    """A cancelled stream's waiting texts, also those that were to run again, are never handed out."""
    made = scheduler(item(1, 256), item(1, 256), item(3, 256))
    run = made.start(0)
    made.died(0)
    made.cancel(run[0].stream)
    assert [one.stream for one in made.start(0)] == [3]


def test_giving_up_takes_out_everything() -> None:
    """A pool without processes gets back every item, waiting or running, and keeps none."""
    items = [item(0, 9), item(1, 9), item(3, 200)]
    made = scheduler(*items)
    made.start(1)
    assert sorted(map(id, made.give_up())) == sorted(map(id, items))
    assert not made.start(0)
