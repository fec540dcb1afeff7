"""Fairness by tokens, over random loads and by example."""

import random
from collections import Counter
from itertools import pairwise

import hypothesis.strategies as st
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, rule

from worker.scheduling.fair_queue import FairQueue
from worker.scheduling.scheduler import Item, Priority

MAX_RUN_TOKENS = 64
LONGEST = 256
STREAMS = 6

lengths = st.sampled_from([1, 8, 20, 33, 64, 65, LONGEST])


def item(stream: int, tokens: int) -> Item:
    """Makes an item."""
    return Item(stream, Priority.BULK, tokens)


class Loads(RuleBasedStateMachine):
    """Streams come, wait, are served, run dry, leave and come again; the books are kept here."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = FairQueue[Item](MAX_RUN_TOKENS)
        self.waiting: Counter[int] = Counter()
        # Tokens that a stream got since both streams of a pair wait.
        self.since: dict[tuple[int, int], int] = {}
        # Tokens of others since a stream came or was last served.
        self.passed_over: Counter[int] = Counter()

    @rule(stream=st.integers(0, STREAMS - 1), tokens=st.lists(lengths, min_size=1, max_size=20))
    def push(self, stream: int, tokens: list[int]) -> None:
        """Adds items."""
        if not self.waiting[stream]:
            for other in range(STREAMS):
                self.since[stream, other] = self.since[other, stream] = 0
            self.passed_over[stream] = 0
        self.waiting[stream] += len(tokens)
        for length in tokens:
            self.queue.push(item(stream, length))

    @rule(times=st.integers(1, 8))
    def take(self, times: int) -> None:
        """Serves streams."""
        for _ in range(times):
            expected = self.queue.next_tokens()
            if not self.queue:
                assert expected == 0
                return
            run = self.queue.take()
            tokens = sum(one.tokens for one in run)
            assert tokens == expected
            self.note(run[0].stream, tokens, len(run))

    def note(self, stream: int, tokens: int, texts: int) -> None:
        """Compares a run with the promises."""
        for other, count in self.waiting.items():
            if not count:
                continue
            if other != stream:
                self.passed_over[other] += tokens
                # Each other stream is ahead by two runs at the most, and then has one before it waits.
                assert self.passed_over[other] <= 4 * LONGEST * (STREAMS - 1), "a stream starves"
            self.since[stream, other] += tokens
            assert self.since[stream, other] - self.since[other, stream] <= 2 * LONGEST or other == stream
        self.passed_over[stream] = 0
        self.waiting[stream] -= texts

    @rule(stream=st.integers(0, STREAMS - 1))
    def drop(self, stream: int) -> None:
        """A caller leaves."""
        self.queue.drop(stream)
        self.waiting[stream] = 0


Loads.TestCase.settings = settings(max_examples=100, stateful_step_count=60, deadline=None)
TestLoads = Loads.TestCase


@given(st.lists(st.lists(lengths, min_size=1, max_size=4), min_size=2, max_size=STREAMS))
def test_streams_that_come_together_stay_together(texts: list[list[int]]) -> None:
    """Streams that wait from the same moment on differ by the longest run, whatever their texts."""
    queue = FairQueue[Item](MAX_RUN_TOKENS)
    for stream, cycle in enumerate(texts):
        for turn in range(100):
            queue.push(item(stream, cycle[turn % len(cycle)]))
    waiting, served = [100] * len(texts), [0] * len(texts)
    while all(waiting):
        run = queue.take()
        served[run[0].stream] += sum(one.tokens for one in run)
        waiting[run[0].stream] -= len(run)
        assert max(served) - min(served) <= LONGEST


def test_long_texts_get_no_more_compute_than_short_ones() -> None:
    """A stream of texts of 256 tokens gets one run for eight of a stream of texts of 32."""
    queue = FairQueue[Item](32)
    for _ in range(100):
        queue.push(item(1, 256))
        queue.push(item(3, 32))
    order = [queue.take()[0].stream for _ in range(18)]
    assert Counter(order) == {1: 2, 3: 16}


def test_stream_that_rested_saves_nothing_up() -> None:
    """A stream that comes back gets its share from then on, not what it left to others meanwhile."""
    queue = FairQueue[Item](MAX_RUN_TOKENS)
    for _ in range(100):
        queue.push(item(1, 64))
    queue.push(item(3, 64))
    for _ in range(60):
        queue.take()
    for _ in range(20):
        queue.push(item(3, 64))
    assert Counter(queue.take()[0].stream for _ in range(20)) == {1: 10, 3: 10}


def test_stream_that_comes_in_drops_gains_nothing() -> None:
    """A stream that always sends one more text as soon as it is served has no more than one that waits."""
    queue = FairQueue[Item](MAX_RUN_TOKENS)
    for _ in range(200):
        queue.push(item(1, 64))
    served: Counter[int] = Counter()
    queue.push(item(3, 64))
    for _ in range(100):
        stream = queue.take()[0].stream
        served[stream] += 1
        if stream == 3:
            queue.push(item(3, 64))
    assert abs(served[1] - served[3]) <= 1


def test_newcomers_without_end_starve_nobody() -> None:
    """Under a flood of streams that come, are served once and leave, a stream with much work gets on."""
    queue = FairQueue[Item](MAX_RUN_TOKENS)
    for _ in range(50):
        queue.push(item(0, 64))
    turns_of_old = []
    for turn in range(1, 400):
        queue.push(item(turn, 64))
        if queue.take()[0].stream == 0:
            turns_of_old.append(turn)
    # With t turns done t newcomers came, so its share falls with the number of those that wait.
    gaps = [after - before for before, after in pairwise(turns_of_old)]
    assert len(turns_of_old) >= 15
    assert max(gaps) <= 400 // 4


def test_memory_is_that_of_what_waits() -> None:
    """A hundred thousand streams that came, were served or cancelled, and left, leave nothing behind."""
    queue = FairQueue[Item](MAX_RUN_TOKENS)
    dice = random.Random(5)
    for _ in range(4):
        queue.push(item(-1, 64))
    for stream in range(100_000):
        queue.push(item(stream, dice.choice([5, 9, 64, 200])))
        if dice.random() < 0.5:
            queue.drop(stream)
        else:
            queue.take()
    assert len(queue) <= 8
    assert len(queue._heap) + len(queue._left) + len(queue._tags_of_left) <= 300
