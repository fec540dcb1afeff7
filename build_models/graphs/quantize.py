"""Makes the served graph of a recipe from the lean FP32 graph, and counts that it really runs as integers."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from build_models.errors import GraphError
from build_models.graphs.activations import Product, scale_by_calibration, scale_by_run, scale_by_token
from build_models.graphs.attention import fuse_attention
from build_models.graphs.calibrate import ChannelRange, Ranges
from build_models.graphs.edit import GraphEdit, Node, make_node
from build_models.graphs.matmuls import MatMulGroup, matmul_groups
from build_models.graphs.migrate import migration_scale
from build_models.graphs.optimize import operator_counts
from build_models.graphs.tables import quantize_tables
from build_models.graphs.variants import approximate_gelu, fuse_residual_norms, merge
from build_models.graphs.weight_only import multiply_blocks
from build_models.graphs.weights import Quantized, quantize, quantize_paired
from build_models.recipes import Activations, Recipe
from worker.session import INTEGER_KERNELS


def make_graph(recipe: Recipe, lean: Path, target: Path, ranges: Ranges | None = None) -> None:
    """Writes the served graph of a recipe.

    Args:
        recipe: What to make.
        lean: The lean FP32 graph.
        target: Where the graph is written.
        ranges: What `activation_ranges` returned for `lean`; needed by recipes that are calibrated.

    Raises:
        GraphError: A multiplication of the recipe does not run as integers, or the graph has none.
    """
    if not recipe.changes_graph:
        shutil.copyfile(lean, target)
        return
    graph = _float_form(recipe, lean)
    groups = matmul_groups(graph) if recipe.quantized else []
    chosen = [group for group in groups if group.name not in recipe.float_groups]
    for group in chosen:
        if recipe.activations is Activations.BLOCKS:
            for node in group.nodes:
                matrix = _matrix(graph, node)
                graph.replace(node, multiply_blocks(graph, group.activations, node.output[0], matrix))
        else:
            _quantize_group(graph, recipe, group, _range(recipe, group, ranges))
    graph.save(target)
    if recipe.quantized:
        merged = recipe.merged_projections
        check_integer_kernels(target, sum(1 if merged else len(group.nodes) for group in chosen))


def _float_form(recipe: Recipe, lean: Path) -> GraphEdit:
    """Returns the graph with all of a recipe's changes that leave the weights alone."""
    graph = GraphEdit(lean)
    if recipe.fused_attention:
        fuse_attention(graph)
    if recipe.quantized_tables:
        quantize_tables(graph)
    if recipe.approximate_gelu:
        approximate_gelu(graph)
    if recipe.fused_norms:
        fuse_residual_norms(graph)
    return graph


def check_integer_kernels(path: Path, expected: int) -> None:
    """Counts the integer kernels of a served graph.

    Raises:
        GraphError: There are fewer than `expected`, or none at all.
    """
    counts = operator_counts(path)
    found = sum(counts.get(name, 0) for name in INTEGER_KERNELS)
    if found == 0 or found < expected:
        raise GraphError(
            f"{found} of {expected} constant MatMuls run as integers in {path.name} "
            f"(operators: {counts}); the recipe cannot be served with this ONNX Runtime"
        )


def _range(recipe: Recipe, group: MatMulGroup, ranges: Ranges | None) -> ChannelRange | None:
    found = None if ranges is None else ranges.get(group.activations)
    if found is None and recipe.calibrated:
        raise GraphError(f"the recipe {recipe.name} needs the calibrated range of {group.name}")
    return found


def _quantize_group(graph: GraphEdit, recipe: Recipe, group: MatMulGroup, found: ChannelRange | None) -> None:
    tensor, migration = group.activations, None
    first: list[Node] = []
    if recipe.migration and found is not None:
        matrices = [_matrix(graph, node) for node in group.nodes]
        migration = migration_scale(found.magnitude, matrices, recipe.migration)
        factors = graph.constant(f"{tensor}/factors", 1 / migration)
        tensor = f"{tensor}/migrated"
        first.append(make_node("Mul", [group.activations, factors], tensor))
        found = ChannelRange(found.low / migration, found.high / migration)
    products = [_product(graph, recipe, node, migration) for node in group.nodes]
    products, split = merge(graph, products) if recipe.merged_projections else (products, [])
    nodes = _nodes(graph, recipe, group, tensor, products, migration, found)
    graph.insert_before(group.nodes[0], *first, *nodes, *split)
    for node in group.nodes:
        graph.replace(node)


def _nodes(
    graph: GraphEdit,
    recipe: Recipe,
    group: MatMulGroup,
    tensor: str,
    products: list[Product],
    migration: NDArray[np.float32] | None,
    found: ChannelRange | None,
) -> list[Node]:
    way = recipe.activations
    if way is Activations.BOUNDED:
        way = Activations.STATIC if group.normalized else Activations.TOKEN
    if way is Activations.DYNAMIC:
        return scale_by_run(graph, tensor, products)
    if way is Activations.STATIC and found is not None:
        return scale_by_calibration(graph, tensor, products, found)
    return scale_by_token(graph, tensor, products, group, migration)


def _product(graph: GraphEdit, recipe: Recipe, node: Node, migration: NDArray[np.float32] | None) -> Product:
    matrix = _matrix(graph, node)
    if migration is not None:
        matrix = matrix * migration[:, None]
    output, bias = node.output[0], None
    added = graph.only_reader(output)
    if added is not None and added.op_type == "Add":
        (other,) = [name for name in added.input if name != output] or [""]
        if graph.shape(other) == matrix.shape[1:]:
            output, bias = added.output[0], graph.value(other)
            graph.replace(added)
    # Layers may share a matrix, and then share its integers, unless each brought its own activations into it.
    name = node.input[1] if migration is None else node.output[0]
    return Product(output, name, _integers(recipe, matrix), bias)


def _matrix(graph: GraphEdit, node: Node) -> NDArray[np.float32]:
    return graph.value(node.input[1])


def _integers(recipe: Recipe, matrix: NDArray[np.float32]) -> Quantized:
    return quantize_paired(matrix) if recipe.paired_weights else quantize(matrix, recipe.weight_bits)


def quantized_groups(lean: Path) -> Sequence[str]:
    """Returns the names of the groups that recipes quantize, in the graph's order."""
    return [group.name for group in matmul_groups(GraphEdit(lean))]
