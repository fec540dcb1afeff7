"""Weights as integers: how a float matrix becomes 7 or 8 bits with one scale a column. Pure.

x86 CPUs without VNNI multiply unsigned activations a by signed weights w in pairs of neighbouring rows and
add each pair in 16 bits (VPMADDUBSW): a0*w0 + a1*w1 must stay below 32768 or it saturates, and the result is
another one than on other CPUs. Seven bits a weight can never do that (255*63*2 = 32130). Eight can, but only
where both weights of a pair are large and of one sign. `quantize_paired` uses eight bits and keeps each
pair's sum low enough: nearly all of the eighth bit's precision, exact on every CPU.
"""

import numpy as np
from numpy.typing import NDArray

MAX_ACTIVATION = 255  # activations are unsigned 8-bit integers
# Sum of two neighbouring weights of one sign that cannot leave 16 signed bits, whatever the activations.
MAX_PAIR = 32767 // MAX_ACTIVATION

# Largest integers that a column's largest weight may become. 127 rounds finest and cuts most pairs, 63 cuts
# none; each column takes what leaves it the least squared error. The steps are arbitrary.
_LARGEST = (63, 74, 86, 98, 110, 127)
_TINY = np.float32(1e-12)  # scale of a column of zeros

Quantized = tuple[NDArray[np.int8], NDArray[np.float32]]


def quantize(matrix: NDArray[np.float32], bits: int) -> Quantized:
    """Returns integers and the scale of each column, so that integers * scales is nearest to the matrix.

    Args:
        matrix: float32 `[inputs, outputs]`.
        bits: 7 or 8, sign included.

    Returns:
        int8 `[inputs, outputs]` and float32 `[outputs]`.
    """
    return _round(matrix, np.abs(matrix).max(axis=0), 2 ** (bits - 1) - 1)


def quantize_paired(matrix: NDArray[np.float32]) -> Quantized:
    """Returns 8-bit integers of which no two neighbouring rows can saturate a 16-bit sum, and their scales.

    Args:
        matrix: float32 `[inputs, outputs]`; rows 0 and 1 are a pair, then 2 and 3, and so on.

    Returns:
        int8 `[inputs, outputs]` and float32 `[outputs]`.
    """
    magnitude = np.abs(matrix).max(axis=0)
    integers, scales = _round(matrix, magnitude, _LARGEST[0])
    error = _squared_error(matrix, integers, scales)
    for largest in _LARGEST[1:]:
        finer, finer_scales = _round(matrix, magnitude, largest)
        limit_pairs(finer)
        finer_error = _squared_error(matrix, finer, finer_scales)
        better = finer_error < error
        integers[:, better], scales[better] = finer[:, better], finer_scales[better]
        error[better] = finer_error[better]
    return integers, scales


def limit_pairs(integers: NDArray[np.int8]) -> None:
    """Brings the pairs of rows that could saturate back to `MAX_PAIR`, in place; both give the same."""
    even = len(integers) // 2 * 2
    first, second = integers[0:even:2], integers[1:even:2]
    # In 16 bits: the sum of two 8-bit magnitudes has nine.
    excess = np.abs(first).astype(np.int16) + np.abs(second).astype(np.int16) - MAX_PAIR
    wrong = (excess > 0) & ((first ^ second) >= 0)  # of one sign: the sign bits are equal
    rows, columns = np.nonzero(wrong)
    if len(rows) == 0:
        return
    a, b = (part[rows, columns].astype(np.int16) for part in (first, second))
    over = excess[rows, columns]
    # No magnitude is above 127, so each is larger than its half of the excess and keeps its sign.
    first[rows, columns] = (a - np.sign(a) * ((over + 1) // 2)).astype(np.int8)
    second[rows, columns] = (b - np.sign(b) * (over // 2)).astype(np.int8)


def saturating_pairs(integers: NDArray[np.int8]) -> int:
    """Returns how many pairs of rows could leave 16 bits: int8 `[inputs, outputs]` in."""
    even = len(integers) // 2 * 2
    pairs = np.stack([integers[0:even:2], integers[1:even:2]], axis=1).astype(np.int32)
    positive = np.maximum(pairs, 0).sum(axis=1)
    negative = np.minimum(pairs, 0).sum(axis=1)
    return int(((positive * MAX_ACTIVATION > 32767) | (negative * MAX_ACTIVATION < -32768)).sum())


def _round(matrix: NDArray[np.float32], magnitude: NDArray[np.float32], largest: int) -> Quantized:
    scales = np.maximum(magnitude / np.float32(largest), _TINY)
    return np.clip(np.rint(matrix / scales), -largest, largest).astype(np.int8), scales


def _squared_error(
    matrix: NDArray[np.float32], integers: NDArray[np.int8], scales: NDArray[np.float32]
) -> NDArray[np.float32]:
    difference = integers * scales - matrix
    error: NDArray[np.float32] = np.einsum("io,io->o", difference, difference)
    return error
