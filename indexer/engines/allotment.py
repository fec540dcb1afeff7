"""Which actor has which unit. Pure: no threads, no clock.

Guarantees: a unit is in one place: left, with one actor, with another process, or done; one that was lost
with its actor is left again. Actors get units in the order of the plan, more while many are left and few
towards the end, so that none waits for long for another's last ones.
"""

import heapq
from collections.abc import Iterable

_FEWEST = 2  # units that an actor has at the end: while one is committed the next is embedded


class Allotment:
    """The units of a run.

    Args:
        units: Numbers of the units that are missing.
        most: Units that an actor has at most.
    """

    def __init__(self, units: Iterable[int], most: int) -> None:
        self._missing = set(units)
        self._left = sorted(self._missing)  # a heap; may hold numbers that are done by now
        self._most = max(_FEWEST, most)
        self._with: dict[int, set[int]] = {}
        self._elsewhere: set[int] = set()

    @property
    def missing(self) -> int:
        """Units that are not done."""
        return len(self._missing)

    @property
    def elsewhere(self) -> int:
        """Units that other processes were met on."""
        return len(self._elsewhere)

    def offer(self, actor: int, actors: int) -> list[int]:
        """Returns the numbers of the units that an actor gets now, of `actors` that work."""
        held = self._with.setdefault(actor, set())
        wanted = min(self._most, max(_FEWEST, -(-len(self._left) // (2 * max(1, actors)))))
        given = []
        while self._left and len(held) < wanted:
            number = heapq.heappop(self._left)
            if number in self._missing:
                held.add(number)
                given.append(number)
        return given

    def done(self, number: int) -> bool:
        """Notes that a unit is committed, by whomever; returns whether that is new."""
        new = number in self._missing
        self._missing.discard(number)
        self._elsewhere.discard(number)
        for held in self._with.values():
            held.discard(number)
        return new

    def passed(self, actor: int, number: int) -> None:
        """Notes that an actor found another process on a unit."""
        held = self._with.get(actor, set())
        if number in held:
            held.remove(number)
            self._elsewhere.add(number)

    def retry(self) -> None:
        """Notes that units of other processes may be free by now."""
        self._put_back(self._elsewhere)
        self._elsewhere = set()

    def lost(self, actor: int) -> int:
        """Notes that an actor is gone; returns how many units it had and did not commit."""
        held = self._with.pop(actor, set())
        self._put_back(held)
        return len(held)

    def _put_back(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            heapq.heappush(self._left, number)
