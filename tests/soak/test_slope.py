"""The line that tells growth from noise."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.soak.slope import slope_of

FINITE = st.floats(-1e6, 1e6, allow_subnormal=False)


@given(st.lists(FINITE, min_size=3, max_size=40))
def test_the_slope_is_that_of_least_squares(values: list[float]) -> None:
    """Beside numpy's own fit, an hour being 3,600 seconds."""
    seconds = 5.0 * np.arange(len(values))
    expected = np.polyfit(seconds, values, 1)[0] * 3600
    assert slope_of(seconds.tolist(), values).per_hour == pytest.approx(expected, rel=1e-6, abs=1e-3)


def test_a_leak_is_seen_and_noise_is_not() -> None:
    """A MiB a minute is found under much noise; the noise alone is not called growth, nor is a small step."""
    mib, seconds = 2.0**20, np.arange(0, 600, 2.0)
    noise = np.random.default_rng(0).normal(100 * mib, 10 * mib / 3, seconds.size)
    leak = noise + seconds / 60 * mib
    assert slope_of(seconds.tolist(), leak.tolist()).grows(32 * mib, 4 * mib)
    assert not slope_of(seconds.tolist(), noise.tolist()).grows(32 * mib, 4 * mib)
    pages = 100 * mib + seconds / 600 * mib
    assert not slope_of(seconds.tolist(), pages.tolist()).grows(1, 4 * mib)
    assert not slope_of([0.0], [1.0]).grows(0, 0)
