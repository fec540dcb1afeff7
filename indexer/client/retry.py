"""How long to wait before the next attempt, and how many attempts are allowed. Pure: time is an argument."""

from indexer.client.settings import RetryConfig

_MOST_DOUBLINGS = 30  # keeps the power small; every delay has met its bound long before


def full_jitter(config: RetryConfig, failures: int, draw: float) -> float:
    """Returns seconds to wait after `failures` failures in a row, at least one.

    Any time up to a bound that doubles ("full jitter", M. Brooker, AWS Architecture Blog, 2015): callers
    that were refused together come back apart.

    Args:
        config: The bounds.
        failures: How often it failed in a row.
        draw: A random number in [0, 1).
    """
    doublings = min(max(failures, 1) - 1, _MOST_DOUBLINGS)
    return draw * min(config.last_delay, config.first_delay * 2.0**doublings)


class RetryBudget:
    """Bounds retries by a share of the calls, so that retries cannot keep a pool overloaded.

    As in Finagle: each call earns a part of a retry, time earns a few, a retry costs one.

    Args:
        config: Its rates.
        now: Seconds on any steady clock.
    """

    def __init__(self, config: RetryConfig, now: float) -> None:
        self._config = config
        self._saved = config.budget_reserve
        self._then = now

    def earn(self, now: float) -> None:
        """Notes a call that begins."""
        self._refill(now)
        self._saved = min(self._config.budget_reserve, self._saved + self._config.budget_ratio)

    def take(self, now: float) -> bool:
        """Returns whether one retry may be made, and counts it."""
        self._refill(now)
        if self._saved < 1:
            return False
        self._saved -= 1
        return True

    def _refill(self, now: float) -> None:
        by_time = max(0.0, now - self._then) * self._config.budget_per_second
        self._saved = min(self._config.budget_reserve, self._saved + by_time)
        self._then = max(now, self._then)
