"""Scale migration: how much of the activations' range moves into the weights before both are quantized.

A few channels of the activations are many times larger than the rest, and one scale for all of them leaves
little for the others. Each input channel of a multiplication is divided by s and its row of the weights
multiplied by s, which changes nothing in exact arithmetic. Pure.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# Channels that calibration saw almost silent, or whose weights are almost zero, count as this share of the
# mean: a text that wakes them up must not be blown up. Arbitrary.
_FLOOR = 0.01


def migration_scale(
    activations: NDArray[np.float32], matrices: Sequence[NDArray[np.float32]], alpha: float
) -> NDArray[np.float32]:
    """Returns s = max|X|^alpha / max|W|^(1 - alpha), brought to a geometric mean of 1.

    Source: SmoothQuant, arXiv:2211.10438, equation 4.

    Args:
        activations: Largest magnitude of each channel, float32 `[channels]`.
        matrices: The matrices that read them, float32 `[channels, outputs]` each.
        alpha: 0 evens out the weights' rows, 1 the activations' channels.

    Returns:
        float32 `[channels]`, each above 0.
    """
    largest = np.max([np.abs(matrix).max(axis=1) for matrix in matrices], axis=0)
    logarithm = alpha * np.log(_lifted(activations)) - (1 - alpha) * np.log(_lifted(largest))
    scale: NDArray[np.float32] = np.exp(logarithm - logarithm.mean()).astype(np.float32)
    return scale


def _lifted(magnitudes: NDArray[np.float32]) -> NDArray[np.float32]:
    lifted: NDArray[np.float32] = np.maximum(magnitudes, max(_FLOOR * float(magnitudes.mean()), 1e-12))
    return lifted
