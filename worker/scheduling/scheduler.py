"""Who runs next.

No threads, no clock, no I/O here: one owner calls, and says what happened. The unit of compute is a *run*:
one text, or several short ones. A process holds at most one run, so a query never waits for more than the
runs that are being computed at that moment.

Guarantees:
- each submitted item leaves exactly once: with the run it finished in, as failed, or dropped by `cancel`;
- queries go before bulk work at every run boundary, but for the share that waiting bulk work has earned: each
  token of a query that goes before it earns `bulk_share / (1 - bulk_share)` tokens, and it goes when what it
  earned covers its next run. So under endless queries bulk gets its share but for one run, and what it gets
  while no query waits counts towards the share. With a share of 0 it waits until no query does;
- streams of one class share the tokens fairly (`fair_queue.py`, which says how the texts of a run are
  chosen);
- an item whose process ended runs again, alone and before all others of its class. It fails when processes
  that held it crashed or hung `MAX_DEATHS` times, or were killed from outside, which says little about the
  text, `MAX_KILLS` times. So of a run of several texts only the guilty one fails, and it ends two
  processes: halving the run to find it would end one more at each step.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

from worker.scheduling.fair_queue import FairQueue

# Processes that may crash or hang over an item: one may be chance, two are its fault.
MAX_DEATHS = 2
# Processes that may be killed from outside while they hold an item. Arbitrary: ends what the kernel kills
# again and again for its memory, and outlives an operator who kills what he sees.
MAX_KILLS = 8


class Priority(Enum):
    """The class of an item."""

    QUERY = "query"
    BULK = "bulk"


@dataclass(eq=False)
class Item:
    """One text, or one window of a text, to compute.

    Attributes:
        stream: The caller's number: what shares fairly, and what `cancel` drops. It has one class.
        priority: The class.
        tokens: Length in tokens, above 0.
        stackable: Whether it may share a tensor with texts of its length, so that those are sought for its
            run.
        deaths: Processes that crashed or hung while they held it; counted by the scheduler.
        kills: Processes that something else ended while they held it; counted by the scheduler.
    """

    stream: int
    priority: Priority
    tokens: int
    stackable: bool = False
    deaths: int = 0
    kills: int = 0


AnyItem = TypeVar("AnyItem", bound=Item)


class Scheduler(Generic[AnyItem]):
    """Keeps the waiting and the running items of a pool.

    Args:
        max_run_tokens: Tokens that the texts of one run sum up to, unless it is a single text.
        bulk_share: Share of the tokens that waiting bulk work gets under a flood of queries; at least 0,
            below 1.
    """

    def __init__(self, max_run_tokens: int, *, bulk_share: float) -> None:
        self._earned_per_token = bulk_share / (1 - bulk_share)
        self._credit = 0.0  # tokens that bulk work may take before a waiting query
        self._lanes = {priority: FairQueue[AnyItem](max_run_tokens) for priority in Priority}
        self._running: dict[int, list[AnyItem | None]] = {}

    def submit(self, items: Iterable[AnyItem]) -> None:
        """Adds new items behind those of their stream."""
        for item in items:
            self._lanes[item.priority].push(item)

    def waiting(self, priority: Priority) -> int:
        """Returns how many items of a class wait for a process."""
        return len(self._lanes[priority])

    def waiting_tokens(self, priority: Priority) -> int:
        """Returns the tokens of a class's items that wait for a process."""
        return self._lanes[priority].tokens

    def start(self, slot: int) -> list[AnyItem]:
        """Hands the next run to a free process slot; empty when nothing waits."""
        if slot in self._running:
            raise ValueError(f"slot {slot} has a run already")
        queries, bulk = self._lanes[Priority.QUERY], self._lanes[Priority.BULK]
        if queries and not (bulk and self._credit >= bulk.next_tokens()):
            items = queries.take()
            self._credit += self._earned_per_token * _tokens(items)
        elif bulk:
            items = bulk.take()
            self._credit = max(0.0, self._credit - _tokens(items))
        else:
            return []
        self._forget_credit()
        self._running[slot] = list(items)
        return items

    def finish(self, slot: int) -> list[AnyItem | None]:
        """Ends a slot's run that was answered; returns its items in order, None for cancelled ones."""
        return self._running.pop(slot)

    def died(self, slot: int, *, blamed: bool = True) -> list[AnyItem]:
        """Ends the run, if any, of a slot whose process ended; returns the items that failed for good.

        Args:
            slot: The process's slot.
            blamed: Whether the process crashed or hung, so that its run is suspect; False for one that
                something outside ended.
        """
        failed: list[AnyItem] = []
        for item in self._running.pop(slot, []):
            if item is None:
                continue
            item.deaths += blamed
            item.kills += not blamed
            if item.deaths >= MAX_DEATHS or item.kills >= MAX_KILLS:
                failed.append(item)
            else:
                self._lanes[item.priority].push_again([item])
        return failed

    def cancel(self, stream: int) -> None:
        """Drops a stream's items: waiting ones never run, and results of running ones are for nobody."""
        for lane in self._lanes.values():
            lane.drop(stream)
        for run in self._running.values():
            for place, item in enumerate(run):
                if item is not None and item.stream == stream:
                    run[place] = None
        self._forget_credit()

    def give_up(self) -> list[AnyItem]:
        """Takes out and returns all items, for a pool that has no process any more."""
        running = [item for run in self._running.values() for item in run if item is not None]
        self._running.clear()
        items = running + [item for lane in self._lanes.values() for item in lane.drain()]
        self._forget_credit()
        return items

    def _forget_credit(self) -> None:
        if not self._lanes[Priority.BULK]:  # only what waits earns
            self._credit = 0.0


def _tokens(items: Iterable[Item]) -> int:
    return sum(item.tokens for item in items)
