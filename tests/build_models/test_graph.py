"""A graph that cannot run here, or does not do what its recipe promises, never gets to a bundle."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from build_models.description import describe
from build_models.errors import ExportError, GraphError
from build_models.export import TorchModel
from build_models.graphs.optimize import check_operators, constant_matmuls, operator_counts, optimize
from build_models.graphs.quantize import check_integer_kernels, make_graph
from build_models.parity import check_parity, shapes
from build_models.quality.speed import GROUP_TOKENS
from build_models.recipes import FP32, RECIPES
from build_models.sources import resolve
from worker.bundle import Bundle, read_bundle
from worker.session import Session


def _save(path: Path, *nodes: onnx.NodeProto, opset: int = 17, **weights: NDArray[np.float32]) -> Path:
    graph = helper.make_graph(
        nodes,
        "made",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    imports = [
        helper.make_opsetid(domain, version)
        for domain, version in (("", opset), ("com.microsoft", 1), ("made.up", 1))
    ]
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=9), str(path))
    return path


def test_operators_without_a_kernel_are_named(tmp_path: Path) -> None:
    """Operators without a CPU kernel are named, with domain and opset, also those inside branches."""
    branch = helper.make_graph(
        [helper.make_node("Unheard", ["x"], ["z"], domain="made.up")],
        "branch",
        [],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)],
    )
    path = _save(
        tmp_path / "m.onnx",
        helper.make_node("Constant", [], ["c"], value_int=1),
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("PackedAttention", ["r"], ["p"], domain="com.microsoft"),
        helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch),
    )
    with pytest.raises(
        GraphError, match=r"com\.microsoft::PackedAttention \(opset 1\), made\.up::Unheard \(opset 1\)"
    ):
        check_operators(path)


def test_operator_newer_than_the_graph_says(tmp_path: Path) -> None:
    """An operator that does not exist in the graph's opset is no operator of it."""
    path = _save(tmp_path / "m.onnx", helper.make_node("Gelu", ["x"], ["y"]), opset=17)
    with pytest.raises(GraphError, match=r"ai\.onnx::Gelu \(opset 17\)"):
        check_operators(path)
    check_operators(_save(tmp_path / "n.onnx", helper.make_node("Gelu", ["x"], ["y"]), opset=20))


def test_optimizing_nonsense(tmp_path: Path) -> None:
    """A file that is no graph is one GraphError."""
    (tmp_path / "m.onnx").write_bytes(b"nonsense")
    with pytest.raises(GraphError, match="cannot optimize"):
        optimize(tmp_path / "m.onnx", tmp_path / "o.onnx")


def test_counts(tmp_path: Path) -> None:
    """Only multiplications by a constant matrix count as those that can be quantized."""
    weight = np.eye(4, dtype=np.float32)
    path = _save(
        tmp_path / "m.onnx",
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("Transpose", ["x"], ["t"]),
        helper.make_node("MatMul", ["a", "t"], ["y"]),
        w=weight,
    )
    assert operator_counts(path) == {"MatMul": 2, "Transpose": 1}
    assert constant_matmuls(path) == 1


def test_quantized_weights_have_seven_bits(tmp_path: Path) -> None:
    """Weights fit in seven bits with a scale for each channel, so that no x86 kernel can overflow."""
    weight = (np.arange(64, dtype=np.float32).reshape(4, 16) - 30) * np.logspace(-3, 3, 16, dtype=np.float32)
    lean = _save(tmp_path / "m.onnx", helper.make_node("MatMul", ["x", "w"], ["y"]), w=weight)
    make_graph(RECIPES["int8-dynamic"], lean, tmp_path / "q.onnx")
    tensors = {
        t.name: numpy_helper.to_array(t) for t in onnx.load(str(tmp_path / "q.onnx")).graph.initializer
    }
    (integers,) = (value for value in tensors.values() if value.dtype == np.int8 and value.ndim == 2)
    (scales,) = (value for name, value in tensors.items() if value.shape == (16,) and "scale" in name)
    assert np.abs(integers.astype(int)).max() == 63
    np.testing.assert_allclose(integers * scales, weight, atol=float(scales.max()) / 2 * 1.001)
    assert np.abs(integers * scales - weight).max(axis=0) == pytest.approx(scales / 2, rel=1.1, abs=1e-9)


def test_a_graph_without_integer_kernels_is_not_int8(tiny_bundle: Path, tiny_fp32_bundle: Path) -> None:
    """FP32 passed off as INT8 is refused, and so is a graph where one matrix stayed behind."""
    with pytest.raises(GraphError, match="0 of 12 constant MatMuls"):
        check_integer_kernels(read_bundle(tiny_fp32_bundle).model, 12)
    check_integer_kernels(read_bundle(tiny_bundle).model, 12)
    with pytest.raises(GraphError, match="12 of 13 constant MatMuls"):
        check_integer_kernels(read_bundle(tiny_bundle).model, 13)


def test_lean_graph_keeps_no_slow_fusion_and_no_mask(tiny_bundle: Path, tiny_fp32_bundle: Path) -> None:
    """The served graphs hold none of the fusions that measure slower, and nothing of an attention mask."""
    for path in (tiny_bundle, tiny_fp32_bundle):
        counts = operator_counts(read_bundle(path).model)
        assert not counts.keys() & {
            "SkipLayerNormalization",
            "BiasGelu",
            "EmbedLayerNormalization",
            "Attention",
        }
        assert not counts.keys() & {"Where", "IsNaN", "Equal", "Range", "GatherElements"}
        assert counts["LayerNormalization"] == 5
        assert counts["Gelu"] == 2
        assert counts.get("Softmax", 0) + counts.get("MultiHeadAttention", 0) == 2


def test_the_recipe_fp32_is_the_lean_graph(tiny_fp32_bundle: Path, tmp_path: Path) -> None:
    """Nothing is quantized by the recipe that says so."""
    model = read_bundle(tiny_fp32_bundle).model
    make_graph(FP32, model, tmp_path / "copy.onnx")
    assert (tmp_path / "copy.onnx").read_bytes() == model.read_bytes()


def test_shapes() -> None:
    """The four shapes of the proof, cut to what the model reads."""
    assert shapes(256) == ((1, 3), (2, 17), (7, 129), (3, 256))
    assert shapes(16) == ((1, 3), (2, 16), (7, 16), (3, 16))


class _Elsewhere:
    """The right model, but for texts of one length: what a fault of positions looks like."""

    def __init__(self, model: TorchModel, wrong_tokens: int) -> None:
        self._model, self._wrong = model, wrong_tokens
        self.vocabulary, self.padding_id = model.vocabulary, model.padding_id

    def reference(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        if ids.shape[1] == self._wrong:
            ids = np.where(np.arange(ids.shape[1]) == 5, 9, ids)
        return self._model.reference(ids, mask)


def test_parity_fails_with_the_shape(tiny_model_dir: Path, tiny_fp32_bundle: Path) -> None:
    """A graph that differs on one shape alone is refused, and the message says which and by how much."""
    model = TorchModel(describe(resolve(str(tiny_model_dir))))
    bundle = read_bundle(tiny_fp32_bundle)
    session = Session(bundle)
    results = check_parity(model, session, 128)
    assert [result.shape for result in results] == [(1, 3), (2, 17), (7, 128), (3, 128), (4, 17)]
    assert max(result.difference for result in results) < 1e-6
    with pytest.raises(ExportError, match=r"shape \(7, 128\): largest difference .*e-0\d, wanted"):
        check_parity(_Elsewhere(model, 128), session, 128)


def test_parity_tells_models_apart(tiny_model_dir: Path, tiny_bundle: Path) -> None:
    """The tolerance is tight enough that a quantized graph does not pass for the model itself."""
    model = TorchModel(describe(resolve(str(tiny_model_dir))))
    bundle = read_bundle(tiny_bundle)
    with pytest.raises(ExportError, match=r"shape \(1, 3\)"):
        check_parity(model, Session(Bundle(bundle.path, bundle.manifest)), 128)


def test_grouping_is_what_was_measured(tiny_bundle: Path, tiny_fp32_bundle: Path) -> None:
    """FP32 texts may share a run; texts with one activation scale a tensor may not."""
    assert read_bundle(tiny_fp32_bundle).manifest.max_group_tokens == GROUP_TOKENS
    assert read_bundle(tiny_bundle).manifest.max_group_tokens == 0
