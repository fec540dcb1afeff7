"""How many bytes the units that are being read or embedded may hold. Assumes one asyncio loop."""

import asyncio


class Room:
    """Memory of open units.

    One unit is always let in, so that work goes on; a unit that grows while it is open keeps others out.

    Args:
        units: Open units at most.
        limit: Bytes that they hold together.
    """

    def __init__(self, units: int, limit: int) -> None:
        self._units, self._limit = units, limit
        self._held: dict[int, int] = {}
        self._total = 0
        self._changed = asyncio.Condition()

    async def open(self, number: int, size: int) -> None:
        """Waits until a unit that holds so many bytes fits."""
        async with self._changed:
            await self._changed.wait_for(
                lambda: (
                    not self._held or (len(self._held) < self._units and self._total + size <= self._limit)
                )
            )
            self.hold(number, size)

    def hold(self, number: int, size: int) -> None:
        """Notes what an open unit holds now."""
        self._total += size - self._held.get(number, 0)
        self._held[number] = size

    async def close(self, number: int) -> None:
        """Notes that a unit holds nothing any more."""
        async with self._changed:
            self._total -= self._held.pop(number)
            self._changed.notify_all()

    async def ease(self) -> None:
        """Waits while open units hold too much, unless it is one alone, which only ends by going on."""
        async with self._changed:
            await self._changed.wait_for(lambda: len(self._held) <= 1 or self._total <= self._limit)
