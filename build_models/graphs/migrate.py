"""Scale migration: moves large activations into the weights before both are quantized.

A few channels of the activations are many times larger than the rest, and one scale for the whole tensor
leaves little for the others. Each input channel of a multiplication is divided by s and its row of the
weights multiplied by s, which changes nothing in exact arithmetic:
s = max|X|^alpha / max|W|^(1 - alpha), brought to a geometric mean of 1 (SmoothQuant, arXiv:2211.10438).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from worker.session import INPUT, session_options

# Channels that calibration saw almost silent, or whose weights are almost zero, count as this share of the
# mean: a text that wakes them up must not be blown up. Arbitrary.
_FLOOR = 0.01

Ranges = Mapping[str, NDArray[np.float32]]


def activation_ranges(graph: Path, texts: Sequence[NDArray[np.int64]]) -> Ranges:
    """Returns, for each tensor that constant matrices multiply, the largest magnitude of its channels.

    Args:
        graph: The lean FP32 graph.
        texts: Token ids `[tokens]` of each calibration text; each runs alone.

    Returns:
        Name of a tensor to float32 `[channels]`.
    """
    model = onnx.load(str(graph))
    names = list(_readers(model))
    model.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    session = ort.InferenceSession(
        model.SerializeToString(), session_options(), providers=["CPUExecutionProvider"]
    )
    ranges: dict[str, NDArray[np.float32]] = {}
    for ids in texts:
        for name, value in zip(names, session.run(names, {INPUT: ids[None]}), strict=True):
            largest = np.abs(value).reshape(-1, value.shape[-1]).max(axis=0)
            ranges[name] = np.maximum(ranges.get(name, largest), largest)
    return ranges


def migrate(graph: Path, ranges: Ranges, alpha: float, target: Path) -> None:
    """Writes the graph with its scales moved; what it computes stays the same but for rounding.

    Args:
        graph: The lean FP32 graph.
        ranges: What `activation_ranges` returned for it.
        alpha: How much of the activations' range moves into the weights, 0 to 1.
        target: Where the new graph is written.
    """
    model = onnx.load(str(graph))
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    factors: dict[str, Any] = {}  # output of a tensor's first reader to the node that goes in front of it
    for name, readers in _readers(model).items():
        matrices = [numpy_helper.to_array(weights[node.input[1]]) for node in readers]
        largest = np.max([np.abs(matrix).max(axis=1) for matrix in matrices], axis=0)
        scale = _scale(ranges[name], largest, alpha)
        moved, factor = f"{name}/migrated", f"{name}/factor"
        factors[readers[0].output[0]] = helper.make_node("Mul", [name, factor], [moved])
        model.graph.initializer.append(numpy_helper.from_array(1 / scale, factor))
        for node, matrix in zip(readers, matrices, strict=True):
            scaled = f"{node.output[0]}/weight"  # of this reader alone: others may share the matrix
            model.graph.initializer.append(numpy_helper.from_array(matrix * scale[:, None], scaled))
            node.input[0], node.input[1] = moved, scaled
    _insert(model, factors)
    onnx.save(model, str(target))


def _insert(model: Any, factors: Mapping[str, Any]) -> None:
    nodes = []
    for node in model.graph.node:
        if node.output[0] in factors:
            nodes.append(factors[node.output[0]])
        nodes.append(node)
    read = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in read]
    graph = helper.make_graph(nodes, model.graph.name, model.graph.input, model.graph.output, kept)
    model.graph.CopyFrom(graph)


def _readers(model: Any) -> dict[str, list[Any]]:
    """Returns each tensor that constant matrices multiply, with those MatMuls in the graph's order."""
    matrices = {tensor.name for tensor in model.graph.initializer if len(tensor.dims) == 2}
    readers: dict[str, list[Any]] = {}
    for node in model.graph.node:
        if node.op_type == "MatMul" and node.input[1] in matrices:
            readers.setdefault(node.input[0], []).append(node)
    return readers


def _scale(
    activations: NDArray[np.float32], weights: NDArray[np.float32], alpha: float
) -> NDArray[np.float32]:
    activations = np.maximum(activations, _FLOOR * activations.mean())
    weights = np.maximum(weights, _FLOOR * weights.mean())
    logarithm = alpha * np.log(activations) - (1 - alpha) * np.log(weights)
    scale: NDArray[np.float32] = np.exp(logarithm - logarithm.mean()).astype(np.float32)
    return scale
