"""What follows the transformer is in the graph, windows of attention stay, a failed export is one line."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file

from build_models.architectures import ARCHITECTURES, Architecture
from build_models.candidates import Candidate, make_candidate, write_tokenizer
from build_models.description import SourceModel, describe
from build_models.errors import ExportError, SourceError
from build_models.export import TorchModel
from build_models.graphs.optimize import optimize
from build_models.parity import check_parity, shapes
from build_models.recipes import FP32
from build_models.sources import resolve
from worker.session import Session

_DIM = 32  # of the tiny models


def _add_module(folder: Path, kind: str, config: dict[str, Any], **weights: NDArray[np.float32]) -> Path:
    modules = json.loads((folder / "modules.json").read_text())
    path = f"{len(modules)}_{kind}"
    at = len(modules) - (modules[-1]["type"].endswith("Normalize"))
    modules.insert(at, {"path": path, "type": f"sentence_transformers.models.{kind}"})
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / path).mkdir()
    (folder / path / "config.json").write_text(json.dumps(config))
    if weights:
        save_file(
            {name.replace("__", "."): value for name, value in weights.items()},
            folder / path / "model.safetensors",
        )
    return folder / path


def _make(source: SourceModel, folder: Path) -> tuple[TorchModel, Candidate]:
    model = TorchModel(source)
    folder.mkdir()
    model.export(folder / "raw.onnx")
    optimize(folder / "raw.onnx", folder / "lean.onnx")
    write_tokenizer(source, folder / "tokenizer.json")
    made = make_candidate(
        source, FP32, folder / "lean.onnx", folder / "tokenizer.json", folder / "made", model.dim
    )
    return model, made


def _vectors(candidate: Candidate, texts: Sequence[NDArray[np.int64]]) -> NDArray[np.float32]:
    return Session(candidate.bundle).embed(texts)


@pytest.fixture
def texts() -> list[NDArray[np.int64]]:
    """Three texts of token ids."""
    chance = np.random.default_rng(3)
    return [chance.integers(5, 2000, length) for length in (3, 30, 100)]


def test_modules_after_the_pooling_are_in_the_graph(
    make_model: Callable[..., Path], texts: list[NDArray[np.int64]], tmp_path: Path
) -> None:
    """Dense and LayerNorm are computed of the pooled vector, in order, before the unit length."""
    chance = np.random.default_rng(4)
    wide, narrow = (chance.normal(0, 0.3, shape).astype(np.float32) for shape in ((48, _DIM), (20, 48)))
    offset, scale, shift = (chance.normal(0, 1, size).astype(np.float32) for size in (48, 48, 48))
    plain = make_model(tmp_path / "plain", "distilbert", normalize=False)
    folder = make_model(tmp_path / "model", "distilbert", normalize=True)
    dense = {
        "in_features": _DIM,
        "out_features": 48,
        "activation_function": "torch.nn.modules.activation.Tanh",
    }
    _add_module(folder, "Dense", dense, linear__weight=wide, linear__bias=offset)
    _add_module(folder, "LayerNorm", {"dimension": 48}, norm__weight=scale, norm__bias=shift)
    last = {"in_features": 48, "out_features": 20, "bias": False}
    at = _add_module(folder, "Dense", last | {"activation_function": "torch.nn.modules.linear.Identity"})
    torch.save({"linear.weight": torch.from_numpy(narrow)}, at / "pytorch_model.bin")  # the older form
    model, made = _make(describe(resolve(str(folder))), tmp_path / "graph")
    assert (model.dim, made.bundle.manifest.dim) == (20, 20)
    assert len(check_parity(model, Session(made.bundle), 128)) == 5

    _, pooled = _make(describe(resolve(str(plain))), tmp_path / "pooled")
    wanted = np.tanh(_vectors(pooled, texts) @ wide.T + offset)
    wanted = (wanted - wanted.mean(1, keepdims=True)) / np.sqrt(wanted.var(1, keepdims=True) + 1e-5)
    wanted = (wanted * scale + shift) @ narrow.T
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    np.testing.assert_allclose(_vectors(made, texts), wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("config", "weights", "message"),
    [
        ({"in_features": 7, "out_features": 4}, None, "reads vectors of 7 values, it gets 32"),
        ({"in_features": _DIM, "out_features": 4}, None, "has no weights, neither model.safetensors nor"),
        (
            {"in_features": _DIM, "out_features": 4},
            b"damaged",
            "cannot read the weights in .*model.safetensors",
        ),
    ],
)
def test_module_with_wrong_weights(
    make_model: Callable[..., Path],
    config: dict[str, Any],
    weights: bytes | None,
    message: str,
    tmp_path: Path,
) -> None:
    """A module whose weights do not fit, are missing or damaged is named with its folder, in one line."""
    at = _add_module(make_model(tmp_path / "model"), "Dense", config)
    if weights is not None:
        (at / "model.safetensors").write_bytes(weights)
    with pytest.raises(SourceError, match=message) as caught:
        TorchModel(describe(resolve(str(tmp_path / "model"))))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("architecture", "window"), [("modernbert", "local_attention"), ("gemma3_text", "sliding_window")]
)
def test_parity_sees_the_window(
    make_model: Callable[..., Path], architecture: str, window: str, tmp_path: Path
) -> None:
    """A graph without the window of local attention fails the proof, on a text longer than the window."""
    near = make_model(tmp_path / "near", architecture)
    far = make_model(tmp_path / "far", architecture, **{window: 4096})
    model = TorchModel(describe(resolve(str(near))))
    _, made = _make(describe(resolve(str(far))), tmp_path / "graph")
    with pytest.raises(ExportError, match=r"differs from torch on shape \(7, 128\)"):
        check_parity(model, Session(made.bundle), 128)


def test_longest_shape() -> None:
    """Models of very long inputs are compared on what memory holds, beyond the windows of local attention."""
    assert shapes(600)[-2:] == ((3, 512), (1, 600))
    assert shapes(32768)[-2:] == ((3, 512), (1, 2048))


def test_operator_that_cannot_be_exported(
    make_model: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The error names the operator and the opset in one line, and the exporter prints no graph beside it."""
    monkeypatch.setitem(cast("dict[str, Architecture]", ARCHITECTURES), "fnet", Architecture())
    model = TorchModel(describe(resolve(str(make_model(tmp_path / "model", "fnet")))))
    capfd.readouterr()  # what writing the model printed
    with pytest.raises(
        ExportError, match=r"could not export model: .*'aten::fft_fftn' to ONNX opset version 17"
    ) as caught:
        model.export(tmp_path / "raw.onnx")
    assert "\n" not in str(caught.value)
    printed = capfd.readouterr()
    assert (printed.out, printed.err) == ("", "")
