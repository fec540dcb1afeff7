"""Activations as 8-bit integers, in three ways.

One scale a tensor found at run time, one scale a tensor from calibration, or one scale a token found at run
time.

One scale a tensor at run time makes texts that share the tensor change each other. One scale from calibration
is the fastest, and sound where a normalization bounds what a text can bring. One scale a token needs no
calibration and is the most exact: tokens whose activations are ten times the others' cost the others nothing.
All are operators that every release of ONNX Runtime runs; the products are exact integers.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from build_models.graphs.calibrate import ChannelRange
from build_models.graphs.edit import MICROSOFT, GraphEdit, Node, make_node
from build_models.graphs.matmuls import MatMulGroup
from build_models.graphs.weights import MAX_ACTIVATION, Quantized

_MIDDLE = 127  # half of the integers: activations without a floor are symmetric around it
# A token of zeros only: anything above keeps the division defined.
_LEAST_RANGE = np.float32(1e-9)


@dataclass(frozen=True)
class Product:
    """One multiplication as it will run.

    Attributes:
        output: Name of the tensor that it makes.
        matrix: What names of the weights start with: the same for two products only if their weights are.
        weights: The matrix as integers, its rows already multiplied by the migration's scale.
        bias: What is added to each row, float32 `[outputs]`; None for nothing.
    """

    output: str
    matrix: str
    weights: Quantized
    bias: NDArray[np.float32] | None


def scale_by_run(graph: GraphEdit, tensor: str, products: list[Product]) -> list[Node]:
    """Returns the nodes of products whose activations get one scale a tensor at run time."""
    return [
        make_node(
            "DynamicQuantizeMatMul",
            [tensor, *_weights(graph, product), _bias(graph, product.output, product.bias)],
            product.output,
            domain=MICROSOFT,
        )
        for product in products
    ]


def scale_by_calibration(
    graph: GraphEdit, tensor: str, products: list[Product], found: ChannelRange
) -> list[Node]:
    """Returns the nodes of products whose activations get the one scale that covers the calibrated range."""
    low, high = min(float(found.low.min()), 0.0), max(float(found.high.max()), 0.0)
    scale = max((high - low) / MAX_ACTIVATION, float(_LEAST_RANGE))
    names = _scale_and_zero(graph, tensor, scale, round(-low / scale))
    integers = f"{tensor}/integers"
    nodes = [make_node("QuantizeLinear", [tensor, *names], integers)]
    nodes += [
        _multiply(graph, product, integers, names, product.output, product.bias) for product in products
    ]
    return nodes


def scale_by_token(
    graph: GraphEdit,
    tensor: str,
    products: list[Product],
    group: MatMulGroup,
    migration: NDArray[np.float32] | None,
) -> list[Node]:
    """Returns the nodes of products whose activations get one scale a token at run time.

    Where the activations have a floor, as behind Gelu, they are lifted above zero first and use all integers
    for what is above; what the lift adds to every product is a constant, and taken off its bias.

    Args:
        graph: Where constants are added.
        tensor: Activations, divided by `migration` already.
        products: What is multiplied.
        group: Says whether there is a floor.
        migration: What the activations were divided by, float32 `[channels]`; None for nothing.
    """
    lift = None
    if group.floor is not None:
        lift = np.full(1, -group.floor, np.float32) / (np.float32(1) if migration is None else migration)
    nodes, integers, ranges, names = _divide_by_token(graph, tensor, lift)
    for product in products:
        bias = product.bias
        if lift is not None and lift.any():
            lifted = _lifted(product.weights, lift)
            bias = -lifted if bias is None else bias - lifted
        whole = f"{product.output}/of_range"
        nodes.append(_multiply(graph, product, integers, names, whole, None))
        scaled = product.output if bias is None else f"{product.output}/scaled"
        nodes.append(make_node("Mul", [whole, ranges], scaled))
        if bias is not None:
            nodes.append(make_node("Add", [scaled, _bias(graph, product.output, bias)], product.output))
    return nodes


def _divide_by_token(
    graph: GraphEdit, tensor: str, lift: NDArray[np.float32] | None
) -> tuple[list[Node], str, str, tuple[str, str]]:
    nodes = []
    magnitude = tensor
    if lift is None:
        magnitude = f"{tensor}/magnitude"
        nodes.append(make_node("Abs", [tensor], magnitude))
        names = _scale_and_zero(graph, tensor, 1 / _MIDDLE, _MIDDLE)
    else:
        if lift.any():
            constant = graph.constant(f"{tensor}/lift", lift)
            nodes.append(make_node("Add", [tensor, constant], f"{tensor}/lifted"))
            tensor = magnitude = f"{tensor}/lifted"
        names = _scale_and_zero(graph, tensor, 1 / MAX_ACTIVATION, 0)
    least = graph.constant("least_range", _LEAST_RANGE)
    ranges, shares, integers = f"{tensor}/range", f"{tensor}/shares", f"{tensor}/integers"
    nodes += [
        make_node("ReduceMax", [magnitude], f"{tensor}/largest", axes=[-1], keepdims=1),
        make_node("Max", [f"{tensor}/largest", least], ranges),
        make_node("Div", [tensor, ranges], shares),
        make_node("QuantizeLinear", [shares, *names], integers),
    ]
    return nodes, integers, ranges, names


def _lifted(weights: Quantized, lift: NDArray[np.float32]) -> NDArray[np.float32]:
    integers, scales = weights
    rows = np.broadcast_to(lift, integers.shape[:1]).astype(np.float64)
    lifted: NDArray[np.float32] = ((rows @ integers) * scales).astype(np.float32)
    return lifted


def _multiply(
    graph: GraphEdit,
    product: Product,
    integers: str,
    names: tuple[str, str],
    output: str,
    bias: NDArray[np.float32] | None,
) -> Node:
    weights, scales, zeros = _weights(graph, product)
    scale, zero = names
    inputs = [integers, weights, scale, scales, zero, zeros, _bias(graph, product.output, bias)]
    return make_node("MatMulIntegerToFloat", inputs, output, domain=MICROSOFT)


def _weights(graph: GraphEdit, product: Product) -> tuple[str, str, str]:
    integers, scales = product.weights
    return (
        graph.constant(f"{product.matrix}/int8", integers),
        graph.constant(f"{product.matrix}/scales", scales),
        graph.constant(f"{product.matrix}/zeros", np.zeros(scales.shape, np.int8)),
    )


def _scale_and_zero(graph: GraphEdit, tensor: str, scale: float, zero: int) -> tuple[str, str]:
    return (
        graph.constant(f"{tensor}/scale", np.float32(scale)),
        graph.constant(f"{tensor}/zero", np.uint8(zero)),
    )


def _bias(graph: GraphEdit, output: str, bias: NDArray[np.float32] | None) -> str:
    return "" if bias is None else graph.constant(f"{output}/bias", bias)
