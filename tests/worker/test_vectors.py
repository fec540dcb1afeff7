"""Packed vectors against plain Python as the oracle."""

import math
import struct

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from worker.vectors import VectorType, cut, pack

# No subnormals, nor values whose 127th part is one: a session that ran in this process before has switched
# them off for its thread.
_SMALLEST = float(np.float32(1e-30))
floats = (
    st.just(0.0)
    | st.floats(_SMALLEST, 1e3, width=32, allow_subnormal=False)
    | st.floats(-1e3, -_SMALLEST, width=32, allow_subnormal=False)
)
matrices = arrays(
    np.float32, array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=9), elements=floats
).filter(lambda array: array.shape[1] > 0)


@given(matrices)
def test_float32_is_bit_identical(vectors: NDArray[np.float32]) -> None:
    """Row after row, little-endian, not a bit changed."""
    packed = pack(vectors, VectorType.FLOAT32)
    assert packed.data == struct.pack(f"<{vectors.size}f", *vectors.ravel().tolist())
    assert (packed.rows, packed.dim, packed.scales) == (*vectors.shape, b"")


@given(matrices)
def test_float16_is_rounded_as_ieee_says(vectors: NDArray[np.float32]) -> None:
    """The standard library's half float is the oracle."""
    packed = pack(vectors, VectorType.FLOAT16)
    assert packed.data == struct.pack(f"<{vectors.size}e", *vectors.ravel().tolist())


@given(matrices)
def test_int8_is_within_half_a_step(vectors: NDArray[np.float32]) -> None:
    """Each value is off by at most half a step of its row; a row of zeros stays zeros."""
    packed = pack(vectors, VectorType.INT8)
    rows, dim = vectors.shape
    values = struct.unpack(f"<{rows * dim}b", packed.data)
    scales = struct.unpack(f"<{rows}f", packed.scales)
    for row in range(rows):
        largest = max(abs(float(value)) for value in vectors[row])
        assert scales[row] == pytest.approx(largest / 127, rel=1e-6)
        for column in range(dim):
            restored = scales[row] * values[row * dim + column]
            assert abs(restored - float(vectors[row, column])) <= scales[row] * 0.5001


@given(matrices, st.integers(1, 9))
def test_cut_vectors_have_unit_length_again(vectors: NDArray[np.float32], dimensions: int) -> None:
    """Leading dimensions are kept; direction too; length is one unless all are zero."""
    dimensions = min(dimensions, vectors.shape[1])
    result = cut(vectors, dimensions, normalize=True)
    if dimensions == vectors.shape[1]:
        assert result is vectors
        return
    for before, after in zip(vectors[:, :dimensions].tolist(), result.tolist(), strict=True):
        length = math.sqrt(math.fsum(value * value for value in before))
        expected = [value / length for value in before] if length > 1e-18 else after
        assert after == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_models_that_do_not_normalize_are_only_cut() -> None:
    """Where the model's vectors have no unit length, neither have the cut ones."""
    vectors = np.array([[3, 4, 5]], dtype=np.float32)
    assert cut(vectors, 2, normalize=False).tolist() == [[3, 4]]
    assert cut(vectors, 2, normalize=True)[0] == pytest.approx([0.6, 0.8])
    assert cut(vectors, 0, normalize=True) is vectors
