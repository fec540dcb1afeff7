"""Other forms of the same graph, for a search to time on the CPU at hand.

Which form is faster differs between CPUs and lengths, so that each is a setting of a recipe.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from build_models.graphs.activations import Product
from build_models.graphs.edit import MICROSOFT, GraphEdit, Node, attributes, make_node

_LAYER_NORM_EPSILON = 1e-5  # ONNX's default


def approximate_gelu(graph: GraphEdit) -> int:
    """Replaces each Gelu by its tanh form, which is off by 5e-4 at most; returns how many."""
    found = [node for node in graph.nodes if node.op_type == "Gelu"]
    for node in found:
        graph.replace(node, make_node("FastGelu", [node.input[0]], node.output[0], domain=MICROSOFT))
    return len(found)


def fuse_residual_norms(graph: GraphEdit) -> int:
    """Makes each sum that only a normalization reads one operator with it; returns how many."""
    fused = 0
    for node in graph.nodes:
        added = graph.producer(node.input[0]) if node.op_type == "LayerNormalization" else None
        if added is None or added.op_type != "Add" or graph.only_reader(added.output[0]) is None:
            continue
        if any(graph.shape(name) is not None for name in added.input):
            continue  # a bias, not a residual
        epsilon = float(attributes(node).get("epsilon", _LAYER_NORM_EPSILON))
        inputs = [*added.input, *node.input[1:]]
        graph.replace(added)
        graph.replace(
            node,
            make_node("SkipLayerNormalization", inputs, node.output[0], domain=MICROSOFT, epsilon=epsilon),
        )
        fused += 1
    return fused


def merge(graph: GraphEdit, products: Sequence[Product]) -> tuple[list[Product], list[Node]]:
    """Returns products that read one tensor as a single one, and the node that splits what it makes."""
    if len(products) < 2:
        return list(products), []
    whole = f"{products[0].output}/merged"
    integers = np.concatenate([product.weights[0] for product in products], axis=1)
    scales = np.concatenate([product.weights[1] for product in products])
    widths = np.array([len(product.weights[1]) for product in products], dtype=np.int64)
    split = make_node("Split", [whole, graph.constant(f"{whole}/widths", widths)], "", axis=-1)
    split.output[:] = [product.output for product in products]
    split.name = f"{whole}/split"
    return [Product(whole, whole, (integers, scales), _joined(products))], [split]


def _joined(products: Sequence[Product]) -> NDArray[np.float32] | None:
    if all(product.bias is None for product in products):
        return None
    return np.concatenate(
        [
            np.zeros(len(product.weights[1]), np.float32) if product.bias is None else product.bias
            for product in products
        ]
    )
