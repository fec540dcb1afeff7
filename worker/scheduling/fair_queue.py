"""The waiting items of one class, in the order in which fairness by tokens wants them.

Pure: no threads, no clock. Start-time fair queueing (Goyal, Vin and Cheng, 1996): each stream has a tag,
which grows by the tokens of what it gets; the stream of the lowest tag is next. Virtual time grows as in
WF²Q+ (Bennett and Zhang, 1997), by tokens over streams that wait, and never lies behind the lowest tag; a
stream that comes or comes back starts there, so that it can neither save up what it did not use nor starve
the others.

Guarantees:
- of two streams that wait all the time, neither gets more tokens than the other by more than the longest
  run, and by more than twice that where one came later; among equals the order is that of arrival;
- the oldest item of a stream is in the stream's next run;
- the texts of a run sum up to at most `max_run_tokens`, unless it is a single text;
- items to be repeated go first and alone, and are not charged again;
- an item costs O(log streams), memory is that of what waits, and of the streams that were served a moment
  ago.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from itertools import islice
from typing import Generic, Protocol, TypeVar

# Items searched for texts of equal length; arbitrary: microseconds against a run's milliseconds.
LOOKAHEAD_ITEMS = 64
# Places of left streams that the heap may hold beyond those of waiting ones before it is built again;
# arbitrary.
_STALE_PLACES = 64


class Charged(Protocol):
    """What waits: an item of a stream, charged by tokens."""

    stream: int
    tokens: int
    stackable: bool


AnyItem = TypeVar("AnyItem", bound=Charged)


@dataclass(eq=False)
class _Stream(Generic[AnyItem]):
    """A stream that waits; one whose queue is empty has left, its place in the heap is stale."""

    tag: float
    queue: deque[AnyItem] = field(default_factory=deque)


class FairQueue(Generic[AnyItem]):
    """Waiting items of many streams.

    Args:
        max_run_tokens: Tokens that the texts of one run sum up to, unless it is a single text.

    Attributes:
        tokens: Tokens of all waiting items.
    """

    def __init__(self, max_run_tokens: int) -> None:
        self._max_run_tokens = max_run_tokens
        self._again: deque[AnyItem] = deque()
        self._streams: dict[int, _Stream[AnyItem]] = {}
        self._heap: list[tuple[float, int, _Stream[AnyItem]]] = []
        self._arrivals = 0
        self._now = 0.0  # virtual time, in tokens
        self._tags_of_left: dict[int, float] = {}  # those ahead of virtual time
        self._left: list[tuple[float, int]] = []
        self._count = 0
        self.tokens = 0

    def __len__(self) -> int:
        return self._count

    def push(self, item: AnyItem) -> None:
        """Adds an item behind those of its stream."""
        stream = self._streams.get(item.stream)
        if stream is None:
            tag = max(self._now, self._tags_of_left.pop(item.stream, 0.0))
            stream = self._streams[item.stream] = _Stream(tag)
            self._place(stream)
        stream.queue.append(item)
        self._count += 1
        self.tokens += item.tokens

    def push_again(self, items: Iterable[AnyItem]) -> None:
        """Adds items that must run again, before all others."""
        for item in items:
            self._again.append(item)
            self._count += 1
            self.tokens += item.tokens

    def drop(self, stream: int) -> None:
        """Forgets a stream and what of it waits."""
        left = self._streams.pop(stream, None)
        dropped = [*left.queue] if left is not None else []
        if left is not None:
            left.queue.clear()
        if self._again:
            dropped += [item for item in self._again if item.stream == stream]
            self._again = deque(item for item in self._again if item.stream != stream)
        self._tags_of_left.pop(stream, None)
        self._taken(dropped)
        if len(self._heap) > 2 * len(self._streams) + _STALE_PLACES:
            self._heap = [place for place in self._heap if place[2].queue]
            heapify(self._heap)

    def drain(self) -> list[AnyItem]:
        """Takes out and returns all items."""
        items = [*self._again, *(item for stream in self._streams.values() for item in stream.queue)]
        self._again.clear()
        self._streams.clear()
        self._taken(items)
        return items

    def next_tokens(self) -> int:
        """Returns the tokens of the run that `take` would return now; 0 when nothing waits."""
        if self._again:
            return self._again[0].tokens
        if not self._streams:
            return 0
        queue = self._first().queue
        return sum(queue[place].tokens for place in _pick(queue, self._max_run_tokens))

    def take(self) -> list[AnyItem]:
        """Takes out the next run: one item, or several short ones of a stream.

        Raises:
            IndexError: Nothing waits.
        """
        if self._again:
            items = [self._again.popleft()]
            self._taken(items)
            return items
        stream = self._first()
        heappop(self._heap)
        items = _take(stream.queue, _pick(stream.queue, self._max_run_tokens))
        tokens = sum(item.tokens for item in items)
        stream.tag += tokens
        self._now += tokens / len(self._streams)
        number = items[0].stream
        if stream.queue:
            self._place(stream)
        else:
            del self._streams[number]
            self._tags_of_left[number] = stream.tag
            heappush(self._left, (stream.tag, number))
        self._taken(items)
        self._catch_up()
        return items

    def _place(self, stream: _Stream[AnyItem]) -> None:
        self._arrivals += 1
        heappush(self._heap, (stream.tag, self._arrivals, stream))

    def _first(self) -> _Stream[AnyItem]:
        while not self._heap[0][2].queue:
            heappop(self._heap)
        return self._heap[0][2]

    def _taken(self, items: Sequence[AnyItem]) -> None:
        self._count -= len(items)
        self.tokens -= sum(item.tokens for item in items)
        if not self._streams:  # nobody waits whom the past could harm
            self._heap.clear()
            self._tags_of_left.clear()
            self._left.clear()
            self._now = 0.0

    def _catch_up(self) -> None:
        if self._streams:
            self._now = max(self._now, self._first().tag)
        while self._left and self._left[0][0] <= self._now:
            tag, stream = heappop(self._left)
            if self._tags_of_left.get(stream) == tag:
                del self._tags_of_left[stream]


def _pick(queue: Sequence[AnyItem], max_tokens: int) -> list[int]:
    """Returns the places of the items that a run takes: the first, and what fits beside it.

    Where texts of equal length may share a tensor they are sought first; then all in the order of arrival.
    """
    first = queue[0]
    left = max_tokens - first.tokens
    if left <= 0:
        return [0]
    window = list(islice(queue, 1, 1 + LOOKAHEAD_ITEMS))
    order: Iterable[int] = range(len(window))
    if first.stackable:  # sorted is stable
        order = sorted(order, key=lambda place: window[place].tokens != first.tokens)
    picked = [0]
    for place in order:
        if window[place].tokens <= left:
            left -= window[place].tokens
            picked.append(place + 1)
        elif not first.stackable:
            break
    return picked


def _take(queue: deque[AnyItem], places: Sequence[int]) -> list[AnyItem]:
    """Takes items out of a queue; the others keep their order."""
    window = [queue.popleft() for _ in range(max(places) + 1)]
    chosen = set(places)
    queue.extendleft(window[place] for place in range(len(window) - 1, -1, -1) if place not in chosen)
    return [window[place] for place in places]
