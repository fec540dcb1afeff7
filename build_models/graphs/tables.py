"""Embedding tables as 8-bit integers with one scale a row: half of a small model's size, at no cost of time.

A row is read for each token, so that its scale is read along with it. One scale for a whole table, as
libraries do it, costs quality; one a row turns a vector by a cosine of 0.99999.
"""

import numpy as np

from build_models.graphs.edit import FLOAT, GraphEdit, Node, make_node

# Smaller tables save too little to be worth an operator: token types have two rows. Arbitrary.
_MIN_ROWS = 64
_LARGEST = 127


def quantize_tables(graph: GraphEdit) -> int:
    """Replaces every look-up of rows in a constant table; returns how many."""
    found = [node for node in graph.nodes if _looks_up(graph, node)]
    for node in found:
        _quantize(graph, node)
    return len(found)


def _looks_up(graph: GraphEdit, node: Node) -> bool:
    shape = graph.shape(node.input[0]) if node.op_type == "Gather" else None
    if shape is None or len(shape) != 2 or shape[0] < _MIN_ROWS:
        return False
    return graph.value(node.input[0]).dtype == np.float32 and not any(
        attribute.name == "axis" and attribute.i != 0 for attribute in node.attribute
    )


def _quantize(graph: GraphEdit, node: Node) -> None:
    name, rows, output = node.input[0], node.input[1], node.output[0]
    table = graph.value(name)
    scales = np.maximum(np.abs(table).max(axis=1, keepdims=True) / np.float32(_LARGEST), np.float32(1e-12))
    integers = graph.constant(f"{name}/int8", np.rint(table / scales).astype(np.int8))
    factors = graph.constant(f"{name}/scales", scales)
    graph.replace(
        node,
        make_node("Gather", [integers, rows], f"{output}/int8", axis=0),
        make_node("Gather", [factors, rows], f"{output}/scales", axis=0),
        make_node("Cast", [f"{output}/int8"], f"{output}/float", to=FLOAT),
        make_node("Mul", [f"{output}/float", f"{output}/scales"], output),
    )
