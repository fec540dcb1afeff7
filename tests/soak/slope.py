"""Does a quantity grow? Least squares over samples; pure."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_SURE = 3.0  # standard errors: of a thousand flat series about one seems to grow
_SECONDS_PER_HOUR = 3600.0


@dataclass(frozen=True)
class Slope:
    """A line through samples.

    Attributes:
        per_hour: Its slope, units an hour.
        error: Standard error of the slope, units an hour.
        growth: What it rises by from the first sample to the last.
        last: The last sample.
    """

    per_hour: float
    error: float
    growth: float
    last: float

    def grows(self, per_hour: float, least: float) -> bool:
        """Returns whether it surely rises faster than `per_hour`, and by more than `least` so far.

        The second bound keeps short runs honest: a few pages in a minute are many bytes an hour.
        """
        return self.per_hour - _SURE * self.error > per_hour and self.growth > least


def slope_of(seconds: Sequence[float], values: Sequence[float]) -> Slope:
    """Fits a line through values at times; fewer than three samples have no slope."""
    if len(values) < 3:
        return Slope(0.0, 0.0, 0.0, values[-1] if values else 0.0)
    x, y = np.asarray(seconds, dtype=np.float64), np.asarray(values, dtype=np.float64)
    x = x - x.mean()
    spread = float(x @ x)
    slope = float(x @ (y - y.mean())) / spread
    left = y - y.mean() - slope * x
    error = float(np.sqrt(left @ left / (len(y) - 2) / spread))
    hour = _SECONDS_PER_HOUR
    return Slope(slope * hour, error * hour, slope * float(x[-1] - x[0]), float(y[-1]))
