"""Weights of 8 bits in blocks, activations almost whole: the most faithful of the integer graphs.

The kernel quantizes activations by blocks of a token, so that texts cannot change each other. On CPUs without
VNNI it is slower than floats.
"""

import numpy as np
from numpy.typing import NDArray

from build_models.graphs.edit import MICROSOFT, GraphEdit, Node, make_node

_BLOCK = 32  # rows that share a scale: the smallest that the kernel knows, and so the most exact
_LARGEST = 127
_ZERO = 128  # what the kernel takes off its unsigned integers when it is not told otherwise
_INTEGER_ACTIVATIONS = 4  # of the kernel's accuracy levels, the one that multiplies integers


def multiply_blocks(graph: GraphEdit, tensor: str, output: str, matrix: NDArray[np.float32]) -> Node:
    """Returns the node that multiplies a tensor by a matrix, float32 `[inputs, outputs]`."""
    integers, scales = quantize_blocks(matrix)
    return make_node(
        "MatMulNBits",
        [
            tensor,
            graph.constant(f"{output}/blocks", integers),
            graph.constant(f"{output}/block_scales", scales.ravel()),
        ],
        output,
        domain=MICROSOFT,
        K=matrix.shape[0],
        N=matrix.shape[1],
        bits=8,
        block_size=_BLOCK,
        accuracy_level=_INTEGER_ACTIVATIONS,
    )


def quantize_blocks(matrix: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Returns the matrix as the kernel reads it.

    Args:
        matrix: float32 `[inputs, outputs]`.

    Returns:
        uint8 `[outputs, blocks, 32]`, 128 for zero, and scales, float32 `[outputs, blocks]`.
    """
    inputs, outputs = matrix.shape
    blocks = -(-inputs // _BLOCK)
    padded = np.zeros((outputs, blocks * _BLOCK), np.float32)
    padded[:, :inputs] = matrix.T
    parts = padded.reshape(outputs, blocks, _BLOCK)
    scales = np.maximum(np.abs(parts).max(axis=2) / np.float32(_LARGEST), np.float32(1e-12))
    return (np.rint(parts / scales[:, :, None]) + _ZERO).astype(np.uint8), scales
