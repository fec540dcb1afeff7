"""Every way to quantize computes what plain arithmetic says, and leaves out what it promises to leave out."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from build_models.errors import GraphError
from build_models.graphs.calibrate import ChannelRange, activation_ranges
from build_models.graphs.migrate import migration_scale
from build_models.graphs.optimize import constant_matmuls, operator_counts
from build_models.graphs.quantize import make_graph, quantized_groups
from build_models.graphs.weights import quantize_paired
from build_models.recipes import FP32, RECIPES, Activations, Recipe
from worker.bundle import Bundle, read_bundle
from worker.session import INPUT, Session, session_options

_WIDTH = 64


def _lean(folder: Path, producer: str = "") -> tuple[Path, NDArray[np.float32], NDArray[np.float32]]:
    """A graph of one product with a bias, behind a producer; returns it, its weight and its bias."""
    chance = np.random.default_rng(0)
    weight = chance.standard_normal((_WIDTH, 32)).astype(np.float32)
    bias = chance.standard_normal(32).astype(np.float32)
    constants = {"w": weight, "b": bias, "one": np.ones(_WIDTH, np.float32)}
    nodes = [helper.make_node("MatMul", ["x", "w"], ["m"]), helper.make_node("Add", ["m", "b"], ["y"])]
    if producer == "LayerNormalization":
        nodes.insert(0, helper.make_node(producer, [INPUT, "one"], ["x"]))
    elif producer == "Gelu":
        nodes.insert(0, helper.make_node(producer, [INPUT], ["x"], domain="com.microsoft"))
    else:
        nodes.insert(0, helper.make_node(producer or "Identity", [INPUT], ["x"]))
    graph = helper.make_graph(
        nodes,
        "one product",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["texts", "tokens", _WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=9), str(folder / "lean.onnx"))
    return folder / "lean.onnx", weight, bias


def _run(path: Path, given: NDArray[np.float32], output: str = "y") -> NDArray[np.float32]:
    session = ort.InferenceSession(str(path), session_options(), providers=["CPUExecutionProvider"])
    (found,) = session.run([output], {INPUT: given})
    return np.asarray(found)


def _given(tokens: int = 9, seed: int = 1) -> NDArray[np.float32]:
    """Activations with one loud channel and one loud token."""
    given = np.random.default_rng(seed).standard_normal((1, tokens, _WIDTH)).astype(np.float32)
    given[:, :, 3] *= 10
    given[:, 0] *= 20
    return given


def _range(values: NDArray[np.float32]) -> ChannelRange:
    edge = np.full(values.shape[-1], np.inf, dtype=np.float32)
    return ChannelRange(edge, -edge).joined(values)


def _recipe(activations: Activations, migration: float = 0.0) -> Recipe:
    return replace(RECIPES["int8"], activations=activations, migration=migration, quantized_tables=False)


def _by_token(given: NDArray[np.float32]) -> NDArray[np.float32]:
    """The oracle: each token rounded to 127 steps of its own largest magnitude."""
    step = np.abs(given).max(axis=-1, keepdims=True) / 127
    return np.asarray(np.rint(given / step) * step)


def test_one_scale_a_token(tmp_path: Path) -> None:
    """Each token is rounded by its own largest value: a loud one costs the others nothing."""
    lean, weight, bias = _lean(tmp_path)
    make_graph(_recipe(Activations.TOKEN), lean, tmp_path / "q.onnx")
    integers, scales = quantize_paired(weight)
    given = _given()
    wanted = _by_token(given) @ (integers * scales) + bias
    np.testing.assert_allclose(_run(tmp_path / "q.onnx", given), wanted, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("migration", [0.0, 0.6])
def test_one_calibrated_scale(tmp_path: Path, migration: float) -> None:
    """The calibrated range decides every step, moved by the migration where there is one."""
    lean, weight, bias = _lean(tmp_path)
    given = _given()
    found = _range(given)
    make_graph(_recipe(Activations.STATIC, migration), lean, tmp_path / "q.onnx", {"x": found})
    factor = (
        migration_scale(found.magnitude, [weight], migration) if migration else np.ones(_WIDTH, np.float32)
    )
    moved, (integers, scales) = given / factor, quantize_paired(weight * factor[:, None])
    step = (max(moved.max(), 0) - min(moved.min(), 0)) / 255
    zero = np.rint(-moved.min() / step)
    rounded = (np.clip(np.rint(moved / step) + zero, 0, 255) - zero) * step
    wanted = rounded @ (integers * scales) + bias
    # A value halfway between two integers may go either way: one step of one weight.
    np.testing.assert_allclose(_run(tmp_path / "q.onnx", given), wanted, atol=2 * step * np.abs(weight).max())


@pytest.mark.parametrize("migration", [0.0, 0.6])
def test_a_floor_gives_its_range_to_the_rest(tmp_path: Path, migration: float) -> None:
    """Behind Gelu, one scale a token uses all integers above the floor: nearer than symmetric ones."""
    lean, weight, bias = _lean(tmp_path, "Gelu")
    given = 3 * _given()
    (inner,) = [_run(_shown(lean, "x", tmp_path), given, "x")]
    assert inner.min() > -0.1701
    truth = inner @ weight + bias
    make_graph(_recipe(Activations.TOKEN, migration), lean, tmp_path / "q.onnx", {"x": _range(inner)})
    lifted = np.abs(_run(tmp_path / "q.onnx", given) - truth).mean()
    integers, scales = quantize_paired(weight)
    symmetric = np.abs(_by_token(inner) @ (integers * scales) + bias - truth).mean()
    assert lifted < symmetric if migration == 0 else lifted < 1.5 * symmetric
    assert lifted < 0.02 * np.abs(truth).mean()


def test_bounded(tmp_path: Path) -> None:
    """Behind a normalization the scale is calibrated, elsewhere each token has its own."""
    for producer, operators in (("LayerNormalization", {"ReduceMax": 0}), ("", {"ReduceMax": 1, "Abs": 1})):
        lean, _, _ = _lean(tmp_path, producer)
        make_graph(_recipe(Activations.BOUNDED), lean, tmp_path / "q.onnx", {"x": _range(_given())})
        counts = operator_counts(tmp_path / "q.onnx")
        assert {name: counts.get(name, 0) for name in operators} == operators
        assert counts["MatMulIntegerToFloat"] == counts["QuantizeLinear"] == 1
        assert constant_matmuls(tmp_path / "q.onnx") == 0


def test_tokens_of_zeros(tmp_path: Path) -> None:
    """A token without any activation gives the bias, and no infinity."""
    lean, _, bias = _lean(tmp_path)
    make_graph(_recipe(Activations.TOKEN), lean, tmp_path / "q.onnx")
    given = np.zeros((1, 3, _WIDTH), np.float32)
    np.testing.assert_allclose(_run(tmp_path / "q.onnx", given), np.broadcast_to(bias, (1, 3, 32)), atol=1e-6)


def test_a_token_is_rounded_alone(tmp_path: Path) -> None:
    """With one scale a token, neighbours change no bit; with one scale a run, they do."""
    lean, _, _ = _lean(tmp_path)
    given = _given(9)
    for activations, same in ((Activations.TOKEN, True), (Activations.DYNAMIC, False)):
        make_graph(_recipe(activations), lean, tmp_path / "q.onnx")
        whole, alone = _run(tmp_path / "q.onnx", given), _run(tmp_path / "q.onnx", given[:, 4:5])
        assert (whole[:, 4:5] == alone).all() == same


def test_calibration_is_needed(tmp_path: Path) -> None:
    """A calibrated recipe without ranges is refused, and so are no texts to calibrate with."""
    lean, _, _ = _lean(tmp_path)
    with pytest.raises(GraphError, match="int8 needs the calibrated range of m"):
        make_graph(RECIPES["int8"], lean, tmp_path / "q.onnx")
    with pytest.raises(GraphError, match="no text to calibrate with"):
        activation_ranges(lean, [])


def test_ranges_cover_every_text(tiny_fp32_bundle: Path) -> None:
    """The range of a channel is the least and the largest that any text showed."""
    model = read_bundle(tiny_fp32_bundle).model
    chance = np.random.default_rng(1)
    texts = [chance.integers(5, 2000, length) for length in (3, 40, 128)]
    whole = activation_ranges(model, texts)
    parts = [activation_ranges(model, [text]) for text in texts]
    assert len(whole) == 2 * 4  # the input of Q, K and V is one tensor
    for name, found in whole.items():
        assert (found.low == np.min([part[name].low for part in parts], axis=0)).all()
        assert (found.high == np.max([part[name].high for part in parts], axis=0)).all()


@pytest.mark.parametrize("name", sorted(set(RECIPES) - {"fp32"}))
def test_recipes_stay_near_the_model(name: str, tiny_fp32_bundle: Path, tmp_path: Path) -> None:
    """Every recipe of the table gives nearly the model's vectors, of texts that it was not calibrated on."""
    bundle = read_bundle(tiny_fp32_bundle)
    chance = np.random.default_rng(2)
    ranges = activation_ranges(bundle.model, [chance.integers(5, 2000, length) for length in (3, 40, 128)])
    make_graph(RECIPES[name], bundle.model, tmp_path / "model.onnx", ranges)
    unseen = [chance.integers(5, 2000, length) for length in (1, 5, 77, 128)]
    wanted, found = (Session(made).embed(unseen) for made in (bundle, Bundle(tmp_path, bundle.manifest)))
    # Calibrated scales cut what goes beyond the calibration: that is why `bounded` keeps them to what cannot.
    least = {"int8": 0.999, "int8-token": 0.999, "int8-static": 0.95}.get(name, 0.995)
    assert (wanted * found).sum(axis=1).min() > least
    counts = operator_counts(tmp_path / "model.onnx")
    assert counts.get("MultiHeadAttention", 0) == 2
    assert constant_matmuls(tmp_path / "model.onnx") == (0 if RECIPES[name].quantized else 12)


def test_attention_as_one_operator_changes_nothing(tiny_fp32_bundle: Path, tmp_path: Path) -> None:
    """It computes what the operators did that it replaces, to rounding, whatever the length."""
    bundle = read_bundle(tiny_fp32_bundle)
    make_graph(replace(FP32, fused_attention=True), bundle.model, tmp_path / "model.onnx")
    texts = [np.random.default_rng(3).integers(5, 2000, length) for length in (1, 2, 31, 128)]
    wanted, found = (Session(made).embed(texts) for made in (bundle, Bundle(tmp_path, bundle.manifest)))
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    assert "Softmax" not in operator_counts(tmp_path / "model.onnx")


def test_tables_of_integers(tiny_fp32_bundle: Path, tmp_path: Path) -> None:
    """Tables lose three quarters of their size and next to nothing of a vector."""
    bundle = read_bundle(tiny_fp32_bundle)
    make_graph(replace(FP32, quantized_tables=True), bundle.model, tmp_path / "model.onnx")
    texts = [np.random.default_rng(4).integers(0, 2000, length) for length in (1, 20, 128)]
    wanted, found = (Session(made).embed(texts) for made in (bundle, Bundle(tmp_path, bundle.manifest)))
    assert (wanted * found).sum(axis=1).min() > 0.9999
    saved = bundle.model.stat().st_size - (tmp_path / "model.onnx").stat().st_size
    rows = 2000 + 128
    assert saved == pytest.approx(rows * 32 * 3 - rows * 4, rel=0.02)


def test_groups_that_stay_float(tiny_fp32_bundle: Path, tmp_path: Path) -> None:
    """Named groups keep their float weights, all others run as integers."""
    model = read_bundle(tiny_fp32_bundle).model
    names = quantized_groups(model)
    assert len(names) == len(set(names)) == 8
    recipe = replace(RECIPES["int8-dynamic"], float_groups=(names[0], names[-1]))
    make_graph(recipe, model, tmp_path / "model.onnx")
    assert constant_matmuls(tmp_path / "model.onnx") == 3 + 1  # Q, K and V are one group


def _shown(path: Path, tensor: str, folder: Path) -> Path:
    model = onnx.load(str(path))
    model.graph.output.append(helper.make_tensor_value_info(tensor, TensorProto.FLOAT, None))
    onnx.save(model, str(folder / "shown.onnx"))
    return folder / "shown.onnx"
