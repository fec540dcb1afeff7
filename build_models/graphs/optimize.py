"""The lean graph: ONNX Runtime's own offline optimization, and proof that every operator can run here.

The worker loads the saved graph without optimizing it again, so what is counted and measured here is
what is served.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as runtime

from build_models.errors import GraphError
from worker.session import session_options

# Fusions whose CPU kernel is slower than the operators it replaces: measured with one document of 240
# tokens, SkipLayerNormalization 0.83 ms for 0.21, BiasGelu 0.97 for 0.43; the other two want a mask.
_FUSIONS_OFF = ("SkipLayerNormFusion", "BiasGeluFusion", "EmbedLayerNormFusion", "AttentionFusion")
_CPU = "CPUExecutionProvider"
# Read into weights when a graph is loaded; never a kernel.
_NO_KERNEL = frozenset({"Constant"})
_STANDARD_DOMAINS = frozenset({"", "ai.onnx"})


def optimize(source: Path, target: Path) -> None:
    """Writes the optimized form of a graph; free of layouts that only one kind of CPU can read.

    Raises:
        GraphError: ONNX Runtime refuses the graph.
    """
    options = session_options()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(target)
    try:
        ort.InferenceSession(str(source), options, providers=[_CPU], disabled_optimizers=list(_FUSIONS_OFF))
    except Exception as error:  # onnxruntime's errors share no public base class
        raise GraphError(f"ONNX Runtime {ort.__version__} cannot optimize the graph: {error}") from error


def operator_counts(path: Path) -> dict[str, int]:
    """Returns how often each operator stands in a graph, most frequent first."""
    counts = Counter(node.op_type for node in _nodes(onnx.load(str(path)).graph))
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def constant_matmuls(path: Path) -> int:
    """Returns how many multiplications by a constant matrix a graph still has in floating point."""
    graph = onnx.load(str(path)).graph
    matrices = {tensor.name for tensor in graph.initializer if len(tensor.dims) == 2}
    return sum(
        1
        for node in _nodes(graph)
        if node.op_type in ("MatMul", "Gemm", "FusedMatMul") and node.input[1] in matrices
    )


def check_operators(path: Path) -> None:
    """Compares every operator of a graph with the CPU kernels that ONNX Runtime has registered.

    Raises:
        GraphError: An operator has no kernel for the graph's opset; the message names each.
    """
    model = onnx.load(str(path))
    opsets = {_domain(entry.domain): entry.version for entry in model.opset_import}
    kernels = _cpu_kernels()
    missing = sorted(
        {
            f"{node.domain or 'ai.onnx'}::{node.op_type} (opset {opsets.get(_domain(node.domain), '?')})"
            for node in _nodes(model.graph)
            if node.op_type not in _NO_KERNEL and not _has_kernel(node, opsets, kernels)
        }
    )
    if missing:
        raise GraphError(
            f"ONNX Runtime {ort.__version__} has no CPU kernel for {', '.join(missing)}; "
            "this model needs another release of it"
        )


def _nodes(graph: Any) -> Iterator[Any]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _nodes(inner)


def _domain(name: str) -> str:
    return "" if name in _STANDARD_DOMAINS else name


def _cpu_kernels() -> dict[tuple[str, str], list[tuple[int, int]]]:
    kernels: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for kernel in runtime.get_all_opkernel_def():
        if kernel.provider == _CPU:
            kernels.setdefault((_domain(kernel.domain), kernel.op_name), []).append(kernel.version_range)
    return kernels


def _has_kernel(
    node: Any, opsets: dict[str, int], kernels: dict[tuple[str, str], list[tuple[int, int]]]
) -> bool:
    domain = _domain(node.domain)
    ranges = kernels.get((domain, node.op_type), [])
    opset = opsets.get(domain)
    if opset is None:
        return False
    try:
        since = onnx.defs.get_schema(node.op_type, opset, domain).since_version if not domain else opset
    except onnx.defs.SchemaError:
        since = opset
    return any(first <= since <= last for first, last in ranges)
