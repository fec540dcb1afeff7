"""A pool of any size on the real scheduler: processes and callers are events on a virtual clock.

Pure but for the stopwatch around the scheduler's own calls; the same seed gives the same history. A run
takes a time that is affine in its tokens; nothing else takes time.
"""

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import TypeVar

import numpy as np

from worker.scheduling.scheduler import Item, Priority, Scheduler

# all-MiniLM-L6-v2 as INT8 on one core (Zen 3): 32 tokens 5.9 ms, 128 tokens 22 ms, 240 tokens 44.6 ms,
# which is 0.183 ms a token by least squares. What a run costs beside them (sockets, waking up) is estimated.
SECONDS_PER_TOKEN = 0.183e-3
SECONDS_PER_RUN = 0.2e-3
MAX_RUN_TOKENS = 64

_T = TypeVar("_T")


@dataclass(frozen=True)
class Load:
    """What comes.

    Attributes:
        processes: Compute processes.
        bulk_streams: Streams that always have work waiting.
        query_load: Share of the pool's time that queries need; above 1 is a flood.
        bulk_share: The scheduler's share for bulk work.
        seconds: Virtual time in which queries come.
        backlog: Texts that each bulk stream keeps waiting or running.
        max_tokens: Longest document.
        seed: Decides lengths and times.
    """

    processes: int
    bulk_streams: int
    query_load: float
    bulk_share: float = 0.1
    seconds: float = 10.0
    backlog: int = 32
    max_tokens: int = 256
    seed: int = 0

    @property
    def longest_run(self) -> float:
        """Seconds of the longest run."""
        return run_seconds(max(self.max_tokens, MAX_RUN_TOKENS))


@dataclass
class History:
    """What happened.

    Attributes:
        waits: Seconds from a query's arrival to its start, in order of arrival of the started.
        latencies: Seconds from its arrival to its end.
        bulk_tokens: Tokens done by bulk stream.
        query_tokens: Tokens of queries done.
        busy: Seconds of all processes' runs by class.
        seconds: Virtual time until the last event.
        calls: Calls of the scheduler.
        call_seconds: Real time that they took.
        most_waiting: Largest count of queries that waited at a moment.
    """

    waits: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    bulk_tokens: Counter[int] = field(default_factory=Counter)
    query_tokens: int = 0
    busy: dict[Priority, float] = field(default_factory=lambda: dict.fromkeys(Priority, 0.0))
    seconds: float = 0.0
    calls: int = 0
    call_seconds: float = 0.0
    most_waiting: int = 0

    def quantiles(self, shares: tuple[float, ...]) -> list[float]:
        """Returns quantiles of the latencies, in seconds."""
        return [float(value) for value in np.quantile(self.latencies or [0.0], shares)]


@dataclass(eq=False)
class _Text(Item):
    came: float = 0.0


def run_seconds(tokens: int) -> float:
    """Returns the time of a run."""
    return SECONDS_PER_RUN + SECONDS_PER_TOKEN * tokens


def document_tokens(dice: random.Random, stream: int, longest: int) -> int:
    """Returns the length of a document: every other stream has long ones, the others short ones."""
    return dice.randint(longest * 3 // 4, longest) if stream % 2 else dice.randint(8, longest // 4)


def query_tokens(dice: random.Random) -> int:
    """Returns the length of a query: some nine tokens, seldom above thirty."""
    return max(3, min(64, round(dice.lognormvariate(2.2, 0.45))))


# Mean length of such queries: exp(2.2 + 0.45² / 2).
MEAN_QUERY_TOKENS = 10.0


class Simulation:
    """Plays a load on a scheduler."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._dice = random.Random(load.seed)
        self._scheduler = Scheduler[_Text](MAX_RUN_TOKENS, bulk_share=load.bulk_share)
        self._idle = list(range(load.processes))
        self._ends: list[tuple[float, int]] = []
        self._history = History()
        self._now = 0.0

    def play(self) -> History:
        """Returns what happens until the time is over; what runs then is not counted."""
        load = self._load
        for stream in range(load.bulk_streams):
            self._submit_documents(stream, load.backlog)
        rate = load.query_load * load.processes / run_seconds(round(MEAN_QUERY_TOKENS))
        next_query = self._dice.expovariate(rate) if rate else load.seconds
        number = load.bulk_streams
        self._feed()
        while True:
            self._now = min(next_query, self._ends[0][0] if self._ends else load.seconds)
            if self._now >= load.seconds:
                break
            if self._now == next_query:
                tokens = query_tokens(self._dice)
                query = _Text(number, Priority.QUERY, tokens, came=self._now)
                self._timed(lambda: self._scheduler.submit([query]))  # noqa: B023  called at once
                number += 1
                next_query = self._now + self._dice.expovariate(rate)
            else:
                self._end(heappop(self._ends)[1])
            self._feed()
        self._history.seconds = load.seconds
        return self._history

    def _submit_documents(self, stream: int, count: int) -> None:
        longest = self._load.max_tokens
        texts = [
            _Text(stream, Priority.BULK, document_tokens(self._dice, stream, longest)) for _ in range(count)
        ]
        self._timed(lambda: self._scheduler.submit(texts))

    def _feed(self) -> None:
        history = self._history
        history.most_waiting = max(history.most_waiting, self._scheduler.waiting(Priority.QUERY))
        while self._idle:
            slot = self._idle[-1]
            run = self._timed(lambda: self._scheduler.start(slot))  # noqa: B023  called at once
            if not run:
                return
            self._idle.pop()
            seconds = run_seconds(sum(text.tokens for text in run))
            history.busy[run[0].priority] += seconds
            if run[0].priority is Priority.QUERY:
                history.waits += [self._now - text.came for text in run]
            heappush(self._ends, (self._now + seconds, slot))

    def _end(self, slot: int) -> None:
        history = self._history
        run = [text for text in self._timed(lambda: self._scheduler.finish(slot)) if text is not None]
        self._idle.append(slot)
        tokens = sum(text.tokens for text in run)
        if run[0].priority is Priority.QUERY:
            history.latencies += [self._now - text.came for text in run]
            history.query_tokens += tokens
        else:
            history.bulk_tokens[run[0].stream] += tokens
            self._submit_documents(run[0].stream, len(run))

    def _timed(self, call: Callable[[], _T]) -> _T:
        began = time.perf_counter()
        result = call()
        self._history.call_seconds += time.perf_counter() - began
        self._history.calls += 1
        return result
