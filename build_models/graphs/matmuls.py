"""The multiplications by constant matrices: where a transformer's time goes, and what is quantized."""

from dataclasses import dataclass

from build_models.graphs.edit import GraphEdit, Node

# Fewer columns than a kernel's tile has gain nothing from integers: a tagger's labels.
_MIN_COLUMNS = 16

_NORMALIZATIONS = frozenset(
    {
        "LayerNormalization",
        "SimplifiedLayerNormalization",
        "SkipLayerNormalization",
        "SkipSimplifiedLayerNormalization",
    }
)
# Least value of an activation function: Gelu has its minimum, -0.16997, at -0.7518; its tanh form -0.17004.
_FLOORS = {"Gelu": -0.1701, "FastGelu": -0.1701, "Relu": 0.0}


@dataclass(frozen=True)
class MatMulGroup:
    """Multiplications that read the same activations; they share what is done to these.

    Attributes:
        activations: Name of the tensor, float32 `[texts, tokens, channels]`.
        nodes: Those that read it, in the graph's order.
        normalized: Whether a normalization made the tensor, so that no text can bring a channel far out of
            the range that others showed.
        floor: Least value that the tensor can have; None if nothing bounds it.
    """

    activations: str
    nodes: tuple[Node, ...]
    normalized: bool
    floor: float | None

    @property
    def name(self) -> str:
        """What reports and recipes call the group: the first node's output, without the exporter's noise."""
        name = str(self.nodes[0].output[0]).removesuffix("_output_0").removesuffix("/MatMul")
        return name.removeprefix("/").removeprefix("_model/")


def matmul_groups(graph: GraphEdit) -> list[MatMulGroup]:
    """Returns the multiplications that can be quantized, in the graph's order."""
    readers: dict[str, list[Node]] = {}
    for node in graph.nodes:
        if _is_constant_matmul(graph, node):
            readers.setdefault(node.input[0], []).append(node)
    groups = []
    for activations, nodes in readers.items():
        producer = graph.producer(activations)
        operator = "" if producer is None else producer.op_type
        groups.append(
            MatMulGroup(activations, tuple(nodes), operator in _NORMALIZATIONS, _FLOORS.get(operator))
        )
    return groups


def _is_constant_matmul(graph: GraphEdit, node: Node) -> bool:
    if node.op_type != "MatMul" or graph.shape(node.input[0]) is not None:
        return False
    shape = graph.shape(node.input[1])
    return shape is not None and len(shape) == 2 and shape[1] >= _MIN_COLUMNS
