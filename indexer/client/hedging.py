"""How long a query may wait before a second pool is asked as well. Pure: times are arguments."""

from collections import deque

from indexer.client.settings import HedgeConfig

_KEPT = 100  # last answers that are known of each size; arbitrary
_ENOUGH = 20  # answers before they are relied on: of fewer, the 95th percentile is the largest
_QUANTILE = 0.95


class Latencies:
    """How long queries took, by their size: a long text takes longer and is not late for that.

    Args:
        config: What is made of it.
    """

    def __init__(self, config: HedgeConfig) -> None:
        self._config = config
        self._seconds: dict[int, deque[float]] = {}

    def note(self, size: int, seconds: float) -> None:
        """Takes the time of an answer to a query of so many characters."""
        self._seconds.setdefault(_class(size), deque(maxlen=_KEPT)).append(seconds)

    def delay(self, size: int) -> float:
        """Returns seconds after which a query of so many characters is late."""
        config, known = self._config, self._seconds.get(_class(size), ())
        if len(known) < _ENOUGH:
            return config.first_delay
        late = sorted(known)[int(_QUANTILE * len(known))]
        return max(config.least_delay, config.factor * late)


def _class(size: int) -> int:
    """Returns which sizes count as alike: those within a factor of four."""
    return size.bit_length() // 2
