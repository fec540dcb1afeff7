"""Who runs next.

No threads, no clock, no I/O here: one owner calls, and says what happened. The unit of compute is a *run*:
one text, or several short ones. A process holds at most one run, so a query never waits for more than the
runs that are being computed at that moment.

Guarantees:
- each submitted item leaves exactly once: with the run it finished in, as failed, or dropped by `cancel`;
- queries go before bulk work at every run boundary; yet while bulk work waits, at most
  `MAX_QUERY_STREAK` runs of queries go before a run of bulk work;
- streams of one class take turns, run by run; the oldest item of a stream is in the stream's next run;
- the texts of a run sum up to at most `max_run_tokens`, unless it is a single text;
- an item whose process ended runs once more, alone and before all others of its class; ending a second
  process fails it. So of a run of several texts only the guilty one fails.
"""

from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

# Runs of queries that may go before waiting bulk work; arbitrary: leaves it a ninth of the pool at the least.
MAX_QUERY_STREAK = 8
# Items searched for texts of equal length; arbitrary: microseconds against a run's milliseconds.
LOOKAHEAD_ITEMS = 64
# Processes that an item may end.
MAX_DEATHS = 2


class Priority(Enum):
    """The class of an item."""

    QUERY = "query"
    BULK = "bulk"


@dataclass(eq=False)
class Item:
    """One text to compute.

    Attributes:
        stream: The caller's number: what takes turns, and what `cancel` drops.
        priority: The class.
        tokens: Length in tokens.
        deaths: Processes that ended while they held it; counted by the scheduler.
    """

    stream: int
    priority: Priority
    tokens: int
    deaths: int = 0


AnyItem = TypeVar("AnyItem", bound=Item)


class _Lane(Generic[AnyItem]):
    """The waiting items of one class."""

    def __init__(self) -> None:
        self._retries: deque[AnyItem] = deque()
        self._streams: OrderedDict[int, deque[AnyItem]] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._retries or self._streams)

    def __len__(self) -> int:
        return len(self._retries) + sum(len(queue) for queue in self._streams.values())

    def push(self, item: AnyItem) -> None:
        self._streams.setdefault(item.stream, deque()).append(item)

    def push_retries(self, items: Iterable[AnyItem]) -> None:
        self._retries.extend(items)

    def drop(self, stream: int) -> None:
        self._streams.pop(stream, None)
        self._retries = deque(item for item in self._retries if item.stream != stream)

    def drain(self) -> list[AnyItem]:
        items = [*self._retries, *(item for queue in self._streams.values() for item in queue)]
        self._retries.clear()
        self._streams.clear()
        return items

    def take(self, max_tokens: int, stack_equal: bool) -> list[AnyItem]:
        if self._retries:
            return [self._retries.popleft()]
        stream, queue = self._streams.popitem(last=False)
        items = _take_equal(queue, max_tokens) if stack_equal else _take_first(queue, max_tokens)
        if queue:
            self._streams[stream] = queue
        return items


def _take_first(queue: deque[AnyItem], max_tokens: int) -> list[AnyItem]:
    items = [queue.popleft()]
    left = max_tokens - items[0].tokens
    while queue and queue[0].tokens <= left:
        left -= queue[0].tokens
        items.append(queue.popleft())
    return items


def _take_equal(queue: deque[AnyItem], max_tokens: int) -> list[AnyItem]:
    """Takes the first item, then those of its length, then others that still fit."""
    first = queue.popleft()
    left = max_tokens - first.tokens
    if left <= 0 or not queue:
        return [first]
    window = [queue.popleft() for _ in range(min(len(queue), LOOKAHEAD_ITEMS))]
    taken = [first]
    # Sorted is stable: partners of equal length come first, then all in the order of their arrival.
    for item in sorted(window, key=lambda other: other.tokens != first.tokens):
        if item.tokens <= left:
            left -= item.tokens
            taken.append(item)
    chosen = set(map(id, taken))
    queue.extendleft(item for item in reversed(window) if id(item) not in chosen)
    return taken


class Scheduler(Generic[AnyItem]):
    """Keeps the waiting and the running items of a pool.

    Args:
        max_run_tokens: Tokens that the texts of one run sum up to, unless it is a single text.
        stack_equal: Whether texts of equal length may share a tensor, so that they are sought for one run.
    """

    def __init__(self, max_run_tokens: int, *, stack_equal: bool) -> None:
        self._max_run_tokens = max_run_tokens
        self._stack_equal = stack_equal
        self._lanes: dict[Priority, _Lane[AnyItem]] = {priority: _Lane() for priority in Priority}
        self._running: dict[int, list[AnyItem | None]] = {}
        self._query_streak = 0

    def submit(self, items: Iterable[AnyItem]) -> None:
        """Adds new items behind those of their stream."""
        for item in items:
            self._lanes[item.priority].push(item)

    def waiting(self, priority: Priority) -> int:
        """Returns how many items of a class wait for a process."""
        return len(self._lanes[priority])

    def start(self, slot: int) -> list[AnyItem]:
        """Hands the next run to a free process slot; empty when nothing waits."""
        if slot in self._running:
            raise ValueError(f"slot {slot} has a run already")
        queries, bulk = self._lanes[Priority.QUERY], self._lanes[Priority.BULK]
        if queries and not (bulk and self._query_streak >= MAX_QUERY_STREAK):
            lane = queries
            self._query_streak = self._query_streak + 1 if bulk else 0
        elif bulk:
            lane = bulk
            self._query_streak = 0
        else:
            return []
        items = lane.take(self._max_run_tokens, self._stack_equal)
        self._running[slot] = list(items)
        return items

    def finish(self, slot: int) -> list[AnyItem | None]:
        """Ends a slot's run that was answered; returns its items in order, None for cancelled ones."""
        return self._running.pop(slot)

    def died(self, slot: int) -> list[AnyItem]:
        """Ends the run, if any, of a slot whose process ended; returns the items that failed for good."""
        failed: list[AnyItem] = []
        again: list[AnyItem] = []
        for item in self._running.pop(slot, []):
            if item is None:
                continue
            item.deaths += 1
            (failed if item.deaths >= MAX_DEATHS else again).append(item)
        for priority, lane in self._lanes.items():
            lane.push_retries([item for item in again if item.priority is priority])
        return failed

    def cancel(self, stream: int) -> None:
        """Drops a stream's items: waiting ones never run, and results of running ones are for nobody."""
        for lane in self._lanes.values():
            lane.drop(stream)
        for slot, run in self._running.items():
            self._running[slot] = [None if item is None or item.stream == stream else item for item in run]

    def give_up(self) -> list[AnyItem]:
        """Takes out and returns all items, for a pool that has no process any more."""
        running = [item for run in self._running.values() for item in run if item is not None]
        self._running.clear()
        return running + [item for lane in self._lanes.values() for item in lane.drain()]
