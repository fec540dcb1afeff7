"""Vectors as they travel: cut, normalized again, packed little-endian. Pure."""

from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

_INT8_MAX = 127


class VectorType(Enum):
    """How the values of a vector travel."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    INT8 = "int8"


@dataclass(frozen=True)
class Packed:
    """Vectors as bytes.

    Attributes:
        data: `rows * dim` little-endian values, row after row.
        scales: One little-endian float32 a row for INT8, else empty: value = scale × int8.
        type: How the values travel.
        dim: Values of a row.
        rows: Count of vectors.
    """

    data: bytes
    scales: bytes
    type: VectorType
    dim: int
    rows: int


def cut(vectors: NDArray[np.float32], dimensions: int, *, normalize: bool) -> NDArray[np.float32]:
    """Keeps the leading dimensions: float32 `[rows, dim]` → `[rows, dimensions]`; 0 keeps all.

    With `normalize` the cut rows get unit length again; a row of zeros stays as it is. Uncut vectors are
    returned untouched, bit for bit.
    """
    if dimensions in (0, vectors.shape[1]):
        return vectors
    kept = vectors[:, :dimensions]
    return unit_length(kept) if normalize else kept


def unit_length(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns float32 `[rows, dim]` with rows of unit length; a row of zeros stays as it is."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(lengths == 0, 1, lengths)).astype(np.float32, copy=False)


def pack(vectors: NDArray[np.float32], kind: VectorType) -> Packed:
    """Packs float32 `[rows, dim]`; INT8 maps the largest magnitude of each row to 127."""
    rows, dim = vectors.shape
    if kind is VectorType.FLOAT32:
        return Packed(vectors.astype("<f4", copy=False).tobytes(), b"", kind, dim, rows)
    if kind is VectorType.FLOAT16:
        return Packed(vectors.astype("<f2").tobytes(), b"", kind, dim, rows)
    scales = (np.abs(vectors).max(axis=1, initial=0.0) / _INT8_MAX).astype("<f4")
    divisors = np.where(scales == 0, 1, scales)[:, None]
    values = np.clip(np.rint(vectors / divisors), -_INT8_MAX, _INT8_MAX).astype(np.int8)
    return Packed(values.tobytes(), scales.tobytes(), kind, dim, rows)
