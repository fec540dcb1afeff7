"""Turns the constant MatMuls of a lean graph into integer kernels, and counts that it really did."""

from pathlib import Path

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic

from build_models.errors import GraphError
from build_models.graphs.optimize import constant_matmuls, operator_counts, optimize
from build_models.recipes import Recipe
from worker.session import INTEGER_KERNELS


def make_graph(recipe: Recipe, lean: Path, target: Path) -> None:
    """Writes the served graph of a recipe from the lean FP32 graph.

    Raises:
        GraphError: Quantization failed, or fewer MatMuls run as integers than the graph has.
    """
    if not recipe.quantized:
        target.write_bytes(lean.read_bytes())
        return
    expected = constant_matmuls(lean)
    quantized = target.with_name(target.name + ".quantized")
    _quantize(recipe, lean, quantized)
    try:
        optimize(quantized, target)
    finally:
        quantized.unlink(missing_ok=True)
    check_integer_kernels(target, expected)


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


def _quantize(recipe: Recipe, source: Path, target: Path) -> None:
    model = onnx.load(str(source))
    # The library asks for its own pre-processing step, on the root logger, unless a graph says it had one;
    # the offline optimization before this was that step.
    onnx.helper.set_model_props(model, {"onnx.quant.pre_process": "onnxruntime.quant"})
    try:
        quantize_dynamic(
            model,
            str(target),
            # Named, because the library's own list also quantizes embedding tables, one scale for each.
            op_types_to_quantize=["MatMul"],
            per_channel=recipe.per_channel,
            reduce_range=recipe.weight_bits == 7,
            weight_type=QuantType.QInt8,
            # Type inference gives up at operators of ONNX Runtime's own domain: all of them give floats.
            extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT, "MatMulConstBOnly": True},
        )
    except Exception as error:  # the library raises whatever its passes raise
        raise GraphError(f"the recipe {recipe.name} failed: {error}") from error
