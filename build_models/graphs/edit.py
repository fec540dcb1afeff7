"""A graph that is being changed: nodes replaced by others, constants added, what nothing reads dropped."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

# Node of a graph: onnx's generated classes have no types that mypy could read.
Node = Any

MICROSOFT = "com.microsoft"  # domain of ONNX Runtime's own operators
FLOAT = TensorProto.FLOAT


class GraphEdit:
    """The nodes and constants of one graph; nothing is written until `save`.

    Nodes are looked up as they were read: replace each at most once.

    Attributes:
        nodes: The nodes in their order, as read.
    """

    def __init__(self, path: Path) -> None:
        self._model = onnx.load(str(path))
        self.nodes: list[Node] = list(self._model.graph.node)
        self._constants = {tensor.name: tensor for tensor in self._model.graph.initializer}
        self._producers = {name: node for node in self.nodes for name in node.output}
        self._readers: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)
        self._outputs = {output.name for output in self._model.graph.output}
        self._replaced: dict[str, list[Node]] = {}  # first output of a node to what stands there instead
        self._before: dict[str, list[Node]] = {}

    def shape(self, name: str) -> tuple[int, ...] | None:
        """Returns the shape of a constant; None for other tensors."""
        tensor = self._constants.get(name)
        return None if tensor is None else tuple(tensor.dims)

    def value(self, name: str) -> NDArray[Any]:
        """Returns a constant.

        Raises:
            KeyError: The tensor is none.
        """
        value: NDArray[Any] = numpy_helper.to_array(self._constants[name])
        return value

    def producer(self, name: str) -> Node | None:
        """Returns the node that makes a tensor; None for constants and inputs."""
        return self._producers.get(name)

    def only_reader(self, name: str) -> Node | None:
        """Returns the one node that reads a tensor; None if there are more, or the graph gives it out."""
        readers = self._readers.get(name, [])
        return readers[0] if len(readers) == 1 and name not in self._outputs else None

    def constant(self, name: str, value: NDArray[Any] | np.generic) -> str:
        """Adds a constant and returns its name; the value of the first wins if it is there."""
        if name not in self._constants:
            self._constants[name] = numpy_helper.from_array(np.asarray(value), name)
        return name

    def replace(self, node: Node, *instead: Node) -> None:
        """Puts other nodes in a node's place; without any, the node is dropped."""
        self._replaced[node.output[0]] = list(instead)

    def insert_before(self, node: Node, *others: Node) -> None:
        """Puts nodes in front of a node."""
        self._before.setdefault(node.output[0], []).extend(others)

    def save(self, path: Path) -> None:
        """Writes the graph without the nodes and constants that no output depends on."""
        nodes: list[Node] = []
        for node in self.nodes:
            nodes += self._before.get(node.output[0], [])
            nodes += self._replaced.get(node.output[0], [node])
        needed = set(self._outputs)
        for node in reversed(nodes):
            if needed.intersection(node.output):
                needed.update(node.input)
                needed.update(name for graph in _subgraphs(node) for name in _read_within(graph))
        graph = self._model.graph
        kept = [node for node in nodes if needed.intersection(node.output)]
        constants = [tensor for name, tensor in self._constants.items() if name in needed]
        changed = helper.make_graph(kept, graph.name, graph.input, graph.output, constants)
        graph.CopyFrom(changed)
        if all(entry.domain != MICROSOFT for entry in self._model.opset_import):
            self._model.opset_import.append(helper.make_opsetid(MICROSOFT, 1))
        onnx.save(self._model, str(path))


def make_node(operator: str, inputs: list[str], output: str, *, domain: str = "", **attributes: Any) -> Node:
    """Returns a new node with one output, named after it."""
    return helper.make_node(operator, inputs, [output], name=output, domain=domain, **attributes)


def attributes(node: Node) -> dict[str, Any]:
    """Returns a node's attributes, name to value."""
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def _subgraphs(node: Node) -> list[Any]:
    return [inner for attribute in node.attribute for inner in (attribute.g, *attribute.graphs) if inner.node]


def _read_within(graph: Any) -> set[str]:
    names = {output.name for output in graph.output}
    for node in graph.node:
        names.update(node.input)
        for inner in _subgraphs(node):
            names |= _read_within(inner)
    return names
