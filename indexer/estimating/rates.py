"""How fast a pool is, with how much doubt, from when its answers came. Pure: time is an argument."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from indexer.errors import PoolError

_SLICES = 20  # of the time: enough to resample, each long enough to hold several batches
_FEWEST = 3  # slices without which there is no interval
_RESAMPLED = 2000  # times; leaves the ends of the interval open by a percent of its width or so
_TAILS = (0.05, 0.95)
_SEED = 20_000  # arbitrary


@dataclass(frozen=True)
class Answered:
    """An answer: when it came (seconds on any steady clock), its documents and their tokens."""

    time: float
    documents: int
    tokens: int


@dataclass(frozen=True)
class Rate:
    """Something a second.

    Attributes:
        mean: Over the whole time.
        low: End of an interval that holds the long run's mean nine times of ten.
        high: Its other end.
    """

    mean: float
    low: float
    high: float

    def times(self, factor: float) -> "Rate":
        """Returns the rate of so many times the pool."""
        return Rate(self.mean * factor, self.low * factor, self.high * factor)


@dataclass(frozen=True)
class Steady:
    """A pool at work, warm-up left out.

    Attributes:
        documents: Documents a second.
        tokens: Tokens a second.
        seconds: How long it was looked at.
        slices: Parts that the time was cut into.
    """

    documents: Rate
    tokens: Rate
    seconds: float
    slices: int


def steady(answers: Sequence[Answered], warm_up: int) -> Steady:
    """Returns rates between answers, whole slices of them resampled (Efron's bootstrap of a ratio of sums).

    Slices end with an answer: a batch comes at once, and half of one would belong to neither side.

    Args:
        answers: In the order of time.
        warm_up: Answers at the start that do not count: the pool was not yet full.

    Raises:
        PoolError: There are too few.
    """
    kept = answers[min(warm_up, max(0, len(answers) - _FEWEST - 1)) :]
    if len(kept) <= _FEWEST or kept[-1].time <= kept[0].time:
        raise PoolError(
            f"the pool answered {len(answers)} batches in the time, too few to tell how fast it is: "
            "give more --seconds, or more documents"
        )
    slices = min(_SLICES, len(kept) - 1)
    cuts = np.linspace(0, len(kept) - 1, slices + 1).round().astype(int)
    times = np.array([answer.time for answer in kept])
    seconds = np.diff(times[cuts])
    documents = np.diff(np.cumsum([answer.documents for answer in kept])[cuts])
    tokens = np.diff(np.cumsum([answer.tokens for answer in kept])[cuts])
    drawn = np.random.default_rng(_SEED).integers(0, slices, (_RESAMPLED, slices))
    return Steady(
        _rate(documents, seconds, drawn), _rate(tokens, seconds, drawn), float(seconds.sum()), slices
    )


def _rate(
    counts: "np.ndarray[tuple[int], np.dtype[np.int64]]",
    seconds: "np.ndarray[tuple[int], np.dtype[np.float64]]",
    drawn: "np.ndarray[tuple[int, int], np.dtype[np.int64]]",
) -> Rate:
    mean = float(counts.sum() / seconds.sum())
    low, high = np.quantile(counts[drawn].sum(axis=1) / seconds[drawn].sum(axis=1), _TAILS)
    return Rate(mean, min(mean, float(low)), max(mean, float(high)))
