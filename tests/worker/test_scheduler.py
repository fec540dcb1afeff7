"""The scheduler's promises, over random histories and by example."""

from collections import Counter

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from worker.scheduling.scheduler import MAX_DEATHS, MAX_KILLS, Item, Priority, Scheduler

MAX_RUN_TOKENS = 64
SLOTS = 3
LONGEST = 256
SHARE = 0.25

# Queries have even stream numbers, bulk streams odd ones, so that a stream has one class.
streams = st.integers(0, 7)
tokens_of_a_text = st.sampled_from([1, 2, 8, 8, 8, 20, 31, 32, 33, 64, 65, LONGEST])
lengths = st.lists(tokens_of_a_text, min_size=1, max_size=12)


def item(stream: int, tokens: int, *, stackable: bool = False) -> Item:
    """Makes an item of the stream's class."""
    return Item(stream, Priority.BULK if stream % 2 else Priority.QUERY, tokens, stackable)


def sum_tokens(items: list[Item]) -> int:
    """Returns the tokens of a run."""
    return sum(one.tokens for one in items)


class Histories(RuleBasedStateMachine):
    """Submits, runs, kills and cancels in any order, and keeps its own books."""

    @initialize(stackable=st.booleans(), share=st.sampled_from([0, 0.1, SHARE, 0.5, 0.9]))
    def begin(self, stackable: bool, share: float) -> None:
        """Begins with an empty scheduler."""
        self.scheduler = Scheduler[Item](MAX_RUN_TOKENS, bulk_share=share)
        self.stackable = stackable
        self.share = share
        self.waiting: list[Item] = []
        self.running: dict[int, list[Item]] = {}
        self.outcomes: Counter[int] = Counter()
        self.everything: list[Item] = []
        # Tokens of each class since bulk work began to wait.
        self.queries_since = self.bulk_since = 0

    @rule(stream=streams, tokens=lengths)
    def submit(self, stream: int, tokens: list[int]) -> None:
        """Adds items."""
        items = [item(stream, length, stackable=self.stackable) for length in tokens]
        self.scheduler.submit(items)
        self.waiting += items
        self.everything += items

    def waits(self, priority: Priority) -> bool:
        """Tells whether something of a class waits."""
        return any(one.priority is priority for one in self.waiting)

    @rule(slot=st.integers(0, SLOTS - 1))
    def start(self, slot: int) -> None:
        """Hands out a run."""
        if slot in self.running:
            with pytest.raises(ValueError, match="has a run"):
                self.scheduler.start(slot)
            return
        queries_wait, bulk_waits = self.waits(Priority.QUERY), self.waits(Priority.BULK)
        run = self.scheduler.start(slot)
        assert bool(run) == bool(self.waiting)
        if not run:
            return
        self.check_run(run)
        for one in run:
            self.waiting.remove(one)
        self.check_share(run, queries_wait, bulk_waits)
        self.running[slot] = run

    def check_run(self, run: list[Item]) -> None:
        """Compares a run with the promises."""
        assert len({one.stream for one in run}) == 1
        assert len(run) == 1 or sum_tokens(run) <= MAX_RUN_TOKENS
        suspects = [one for one in self.waiting if self.ended(one) and one.priority is run[0].priority]
        assert len(run) == 1 or not any(map(self.ended, run)), "a suspect shares a run"
        assert not suspects or run[0] is suspects[0], "the first suspect does not go first"
        mine = [one for one in self.waiting if one.stream == run[0].stream and not self.ended(one)]
        assert self.ended(run[0]) or run[0] is mine[0], "the oldest item of its stream is left behind"

    def check_share(self, run: list[Item], queries_wait: bool, bulk_waits: bool) -> None:
        """Bulk work overtakes a query only when it earned it, and is owed a run at the most."""
        earned = self.share / (1 - self.share)
        if run[0].priority is Priority.BULK:
            self.bulk_since += sum_tokens(run)
            overdrawn = self.bulk_since - earned * self.queries_since
            assert not queries_wait or overdrawn <= 1e-6, "bulk overtook a query"
            if not queries_wait and overdrawn > 0:  # what is free is not owed
                self.queries_since = self.bulk_since = 0
        elif bulk_waits:
            self.queries_since += sum_tokens(run)
            owed = earned * self.queries_since - self.bulk_since
            assert owed <= LONGEST + earned * LONGEST, "bulk work starves"
        if not self.waits(Priority.BULK):
            self.queries_since = self.bulk_since = 0

    @staticmethod
    def ended(one: Item) -> bool:
        """Tells whether a process ended with the item."""
        return bool(one.deaths or one.kills)

    @rule(slot=st.integers(0, SLOTS - 1))
    def finish(self, slot: int) -> None:
        """A process answers."""
        if slot in self.running:
            outcome = self.scheduler.finish(slot)
            assert [one for one in outcome if one is not None] == self.running.pop(slot)
            self.count([one for one in outcome if one is not None])

    @rule(slot=st.integers(0, SLOTS - 1), blamed=st.booleans())
    def die(self, slot: int, blamed: bool) -> None:
        """A process ends."""
        run = self.running.pop(slot, [])
        before = [(one.deaths, one.kills) for one in run]
        failed = self.scheduler.died(slot, blamed=blamed)
        assert [(one.deaths, one.kills) for one in run] == [(d + blamed, k + (not blamed)) for d, k in before]
        assert failed == [one for one in run if one.deaths == MAX_DEATHS or one.kills == MAX_KILLS]
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
        if not self.waits(Priority.BULK):
            self.queries_since = self.bulk_since = 0

    def count(self, items: list[Item]) -> None:
        """Notes outcomes."""
        self.outcomes.update(map(id, items))

    @invariant()
    def nothing_is_lost_or_counted_twice(self) -> None:
        """Every item waits, runs or has its one outcome."""
        for priority in Priority:
            mine = [one for one in self.waiting if one.priority is priority]
            assert self.scheduler.waiting(priority) == len(mine)
            assert self.scheduler.waiting_tokens(priority) == sum_tokens(mine)
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


# 100 histories of 40 steps, some 4,000 decisions that are compared with the books.
Histories.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestHistories = Histories.TestCase


def scheduler(*items: Item, share: float = 0.1) -> Scheduler[Item]:
    """Makes a scheduler with waiting items."""
    made = Scheduler[Item](MAX_RUN_TOKENS, bulk_share=share)
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


@given(
    share=st.sampled_from([0.01, 0.1, 0.25, 0.5, 0.9]),
    queries=st.lists(tokens_of_a_text, min_size=1, max_size=5),
    documents=st.lists(tokens_of_a_text, min_size=1, max_size=5),
)
def test_endless_queries_leave_bulk_work_its_share(
    share: float, queries: list[int], documents: list[int]
) -> None:
    """At every moment of an endless flood bulk work has its share of the tokens but for one run."""
    made = Scheduler[Item](MAX_RUN_TOKENS, bulk_share=share)
    done = dict.fromkeys(Priority, 0)
    for turn in range(300):
        made.submit([item(2 * turn, queries[turn % len(queries)])])
        while made.waiting_tokens(Priority.BULK) < 4 * LONGEST:
            made.submit([item(1, length) for length in documents])
        run = made.start(0)
        made.finish(0)
        done[run[0].priority] += sum_tokens(run)
        short = share * sum(done.values()) - done[Priority.BULK]
        # It waits until the share covers its whole run; the query run before may have been a long one.
        assert short <= (1 - share) * LONGEST + share * LONGEST
        assert done[Priority.BULK] <= share / (1 - share) * done[Priority.QUERY] + 1e-6


def test_share_of_nothing_lets_queries_go_first() -> None:
    """With a share of 0 bulk work waits for as long as queries do, and goes when none does."""
    made = scheduler(item(1, 9), *(item(0, 60) for _ in range(500)), share=0)
    assert [run[0].priority for run in run_all(made)] == [*[Priority.QUERY] * 500, Priority.BULK]


def test_what_bulk_work_gets_for_nothing_counts() -> None:
    """Bulk work that had more than its share while no query waited does not overtake the next query."""
    made = scheduler(*(item(1, 64) for _ in range(50)), share=0.5)
    for _ in range(10):
        made.submit([item(0, 60)])
        assert made.start(0)[0].priority is Priority.QUERY
        made.finish(0)
        assert made.start(0)[0].priority is Priority.BULK
        made.finish(0)


def test_cancelled_bulk_work_leaves_no_credit() -> None:
    """What bulk work earned while it waited goes with it: the next begins with nothing."""
    made = scheduler(item(1, 64), *(item(0, 60) for _ in range(3)), share=0.5)
    made.start(0)
    made.cancel(1)
    made.submit([item(3, 8)])
    assert made.start(1)[0].priority is Priority.QUERY


def test_equal_lengths_are_sought_first() -> None:
    """Where texts may share a tensor, a run is filled with the first text's length, then with what fits."""
    first, other, same, last = (item(1, length, stackable=True) for length in (20, 10, 20, 12))
    made = scheduler(first, other, same, last)
    assert made.start(0) == [first, same, other, last]


def test_order_is_kept_where_texts_run_alone() -> None:
    """Where no text may share a tensor, a run is a piece of the queue as it stands."""
    items = [item(1, 20), item(1, 40), item(1, 20), item(1, 20)]
    made = scheduler(*items)
    assert run_all(made) == [items[:2], items[2:]]


def test_only_the_guilty_text_of_a_run_fails() -> None:
    """When a run of several texts crashes, each runs again alone: only the one that crashes again fails."""
    texts = [item(1, 8) for _ in range(4)]
    made = scheduler(*texts)
    assert made.start(0) == texts
    assert made.died(0) == []
    assert made.start(1) == [texts[0]]
    made.finish(1)
    assert made.start(1) == [texts[1]]
    assert made.died(1) == [texts[1]]
    assert run_all(made) == [[texts[2]], [texts[3]]]


@given(st.lists(st.booleans(), min_size=MAX_DEATHS + MAX_KILLS, max_size=20))
def test_ends_that_a_text_survives(blames: list[bool]) -> None:
    """A text fails with the second crash or hang, or with the eighth kill from outside."""
    text = item(1, 8)
    made = scheduler(text)
    for ends, blamed in enumerate(blames, 1):
        assert made.start(0) == [text]
        failed = made.died(0, blamed=blamed)
        crashes = sum(blames[:ends])
        assert bool(failed) == (crashes == 2 or ends - crashes == 8)
        if failed:
            break
    assert not made.start(0)


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
