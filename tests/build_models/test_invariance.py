"""A text's vector depends on the text alone, and a model of which that is not true is found out."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from build_models.quality.encode import Vectors
from build_models.quality.evaluate import Reference
from build_models.quality.figures import Invariance
from build_models.quality.invariance import check_invariance, compare_bytes, pick_texts
from build_models.quality.judgements import EvalSet, read_eval_set
from worker.bundle import Bundle, read_bundle


def _reference(data: EvalSet, documents: list[int], queries: list[int]) -> Reference:
    """A set with lengths and no vectors: all that choosing texts looks at."""
    nothing = np.empty((0, 0), dtype=np.float32)
    tokens = [np.array(counts, dtype=np.int64) for counts in (documents, queries)]
    return Reference(data, Vectors(nothing, nothing, *tokens), {}, {}, np.empty(0), np.empty(0, np.float32))


@pytest.fixture
def reference(eval_data: Path) -> Reference:
    """The small evaluation set, as if it had texts of three lengths."""
    data = read_eval_set(eval_data)
    documents = [100 if row % 2 else 300 for row in range(len(data.documents))]
    return _reference(data, documents, [12] * len(data.queries))


def test_texts_of_every_length() -> None:
    """The sample holds short and long texts alike, however rare, of documents and queries."""
    names = [f"d{n}" for n in range(1000)]
    data = EvalSet("made", {name: name for name in names}, {"q0": "the only short one"}, {})
    reference = _reference(data, [20] * 700 + [200] * 297 + [600] * 3, [4])
    found = pick_texts([reference])
    assert found[0] == "the only short one"
    assert [
        sum(1 for text in found[1:] if low <= int(text[1:]) < high)
        for low, high in ((0, 700), (700, 997), (997, 1000))
    ] == [8, 8, 3]
    assert len(set(found)) == len(found)
    assert pick_texts([reference]) == found


def test_a_served_model_is_invariant(tiny_bundle: Path, tiny_fp32_bundle: Path, reference: Reference) -> None:
    """INT8 and FP32 bundles give bit-identical vectors in every process, order and company."""
    for path in (tiny_bundle, tiny_fp32_bundle):
        found = check_invariance(read_bundle(path), [reference])
        assert (found.texts, found.changed) == (24, 0)
        assert found.cosine == pytest.approx(1)


def test_noise_is_found(tiny_fp32_bundle: Path, reference: Reference, tmp_path: Path) -> None:
    """A graph with a random operator left in it changes every vector, and is caught at it."""
    bundle = read_bundle(tiny_fp32_bundle)
    model = onnx.load(bundle.model)
    (output,) = (node for node in model.graph.node if "embedding" in node.output)
    output.output[0] = "quiet"
    model.graph.node.extend(
        [
            onnx.helper.make_node("RandomUniformLike", ["quiet"], ["noise"], low=0.0, high=1e-3),
            onnx.helper.make_node("Add", ["quiet", "noise"], ["embedding"]),
        ]
    )
    onnx.save(model, tmp_path / "model.onnx")
    (tmp_path / "tokenizer.json").write_bytes(bundle.tokenizer.read_bytes())
    found = check_invariance(Bundle(tmp_path, bundle.manifest), [reference])
    assert (found.texts, found.changed) == (24, 24)
    assert 0.99 < found.cosine < 0.9999999


def test_prompts_and_groups_do_not_disturb(tiny_fp32_bundle: Path, reference: Reference) -> None:
    """A bundle that puts prompts in front and lets texts share a run is checked in runs of one."""
    bundle = read_bundle(tiny_fp32_bundle)
    assert bundle.manifest.max_group_tokens > 0
    prompted = replace(bundle.manifest, prompts={"d": "text: "}, document_prompt="d")
    assert check_invariance(Bundle(bundle.path, prompted), [reference]).changed == 0


def test_bytes_not_values() -> None:
    """A text counts once however often it changes, and by its bytes: 0 and -0 are two vectors."""
    wanted = np.array([[1, 0], [0, 1]], dtype=np.float32)
    rows = [1, 0, 1, 0]
    assert compare_bytes(wanted, wanted[rows], rows) == Invariance(2, 0, 1.0)
    found = wanted[rows]
    found[1, 1] = found[3, 1] = -0.0
    assert compare_bytes(wanted, found, rows) == Invariance(2, 1, 1.0)
