"""Which model's work is next, while one takes over from another. Pure: no threads, no clock.

Guarantees: queries of either model go before bulk work of either, the older model first; yet a model whose
work waits is passed over at most `MAX_PASSES` times in a row, so that an old one always comes to its end.
"""

from collections import Counter
from collections.abc import Mapping

# Runs that may go before a model's waiting work; arbitrary, a takeover is over in seconds.
MAX_PASSES = 4


class Turns:
    """Remembers who was passed over."""

    def __init__(self) -> None:
        self._passes: Counter[int] = Counter()

    def order(self, queries: Mapping[int, bool]) -> list[int]:
        """Returns the generations whose work waits, the next first.

        Args:
            queries: Each such generation, and whether a query is among what waits.
        """
        return sorted(queries, key=lambda one: (self._passes[one] < MAX_PASSES, not queries[one], one))

    def went(self, generation: int, queries: Mapping[int, bool]) -> None:
        """Notes whose run it was, of those that `order` was asked for."""
        del self._passes[generation]
        self._passes.update(other for other in queries if other != generation)
