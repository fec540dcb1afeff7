"""Weights as integers: nearest, and never more than a 16-bit sum of two products can hold."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from build_models.graphs.weights import (
    MAX_ACTIVATION,
    MAX_PAIR,
    limit_pairs,
    quantize,
    quantize_paired,
    saturating_pairs,
)

matrices = st.tuples(st.integers(1, 9), st.integers(1, 5)).flatmap(
    lambda shape: arrays(np.float32, shape, elements=st.floats(-1000, 1000, width=32, allow_subnormal=False))
)
integers = st.tuples(st.integers(1, 9), st.integers(1, 5)).flatmap(
    lambda shape: arrays(np.int8, shape, elements=st.integers(-127, 127))
)


def _worst_sums(found: NDArray[np.int8]) -> tuple[int, int]:
    """The oracle: the largest and least sum of two neighbouring products over all activations."""
    even = len(found) // 2 * 2
    if even == 0:
        return 0, 0
    pairs = found[:even].astype(int).reshape(even // 2, 2, -1)
    options = [pairs[:, 0] * a + pairs[:, 1] * b for a in (0, MAX_ACTIVATION) for b in (0, MAX_ACTIVATION)]
    return int(np.max(options)), int(np.min(options))


@given(matrices, st.sampled_from([7, 8]))
def test_nearest_integers(matrix: NDArray[np.float32], bits: int) -> None:
    """Each weight is off by half a step of its column at most, and uses no more than its bits."""
    found, scales = quantize(matrix, bits)
    assert found.dtype == np.int8
    assert scales.dtype == np.float32
    assert np.abs(found.astype(int)).max() <= 2 ** (bits - 1) - 1
    assert (np.abs(found * scales - matrix) <= scales * 0.5001 + 1e-12).all()


@given(matrices)
def test_pairs_never_saturate(matrix: NDArray[np.float32]) -> None:
    """No activations at all can bring a pair of weights out of 16 bits."""
    found, _ = quantize_paired(matrix)
    largest, least = _worst_sums(found)
    assert -32768 <= least <= 0 <= largest <= 32767
    assert saturating_pairs(found) == 0


@given(matrices)
def test_pairs_cost_less_than_the_bit_they_save(matrix: NDArray[np.float32]) -> None:
    """No column is further from its weights than seven bits would leave it."""
    seven, seven_scales = quantize(matrix, 7)
    paired, scales = quantize_paired(matrix)
    wanted = ((seven * seven_scales - matrix) ** 2).sum(axis=0)
    assert (((paired * scales - matrix) ** 2).sum(axis=0) <= wanted * 1.0001 + 1e-12).all()


@given(integers)
def test_limiting(found: NDArray[np.int8]) -> None:
    """Pairs that fit stay as they are; others lose what is too much, half each, and keep their signs."""
    before = found.copy()
    limit_pairs(found)
    assert saturating_pairs(found) == 0
    assert (np.sign(found) == np.sign(before)).all()
    lost = np.abs(before.astype(int)) - np.abs(found.astype(int))
    assert (lost >= 0).all()
    for first in range(0, len(found) - 1, 2):
        pair, was = lost[first : first + 2], before[first : first + 2].astype(int)
        excess = np.abs(was).sum(axis=0) - MAX_PAIR
        same = was[0] * was[1] > 0
        assert (pair.sum(axis=0) == np.where(same & (excess > 0), excess, 0)).all()
        assert (np.abs(pair[0] - pair[1]) <= 1).all()


@given(integers)
def test_saturating_pairs_are_those_of_the_oracle(found: NDArray[np.int8]) -> None:
    """A matrix is called safe exactly if the worst sums fit."""
    largest, least = _worst_sums(found)
    assert (saturating_pairs(found) == 0) == (largest <= 32767 and least >= -32768)


def test_what_the_eighth_bit_gives() -> None:
    """On weights as trained models have them, pairs leave less than half of seven bits' error."""
    matrix = np.random.default_rng(0).standard_normal((384, 384)).astype(np.float32)
    errors = {}
    for name, (found, scales) in {
        "seven": quantize(matrix, 7),
        "paired": quantize_paired(matrix),
        "eight": quantize(matrix, 8),
    }.items():
        errors[name] = float(((found * scales - matrix) ** 2).mean())
    assert errors["eight"] < errors["paired"] < 0.5 * errors["seven"]
    assert saturating_pairs(quantize(matrix, 8)[0]) > 0
    assert errors["seven"] == pytest.approx(
        float((np.abs(matrix).max(0) / 63).__pow__(2).mean()) / 12, rel=0.05
    )
