"""What is no model, or a damaged one, is one clear line on stderr, exit code 1, and nothing on disk."""

import json
import os
import pickle
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from onnx import TensorProto, helper

from build_models.__main__ import run_command_line
from build_models.description import describe
from build_models.errors import SourceError
from build_models.export import TorchModel
from build_models.sources import resolve
from worker.bundle import Pooling
from worker.cpu_flags import exact_here

Damage = Callable[[Path], None]


class _Marker:
    """What a hostile pickle would run."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self._path),))


def _empty(folder: Path) -> None:
    for file in folder.iterdir():
        if file.is_file():
            file.unlink()


def _cut(name: str) -> Damage:
    def damage(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: len(data) // 2])

    return damage


def _set(**entries: Any) -> Damage:
    def damage(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | entries))

    return damage


def _loop(name: str) -> Damage:
    def damage(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).symlink_to(folder / name)

    return damage


def _plain(folder: Path) -> None:
    (folder / "modules.json").unlink()
    (folder / "1_Pooling" / "config.json").unlink()


def _hostile(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with (folder / "pytorch_model.bin").open("wb") as stream:
        pickle.dump({"weight": _Marker(folder.parent / "executed")}, stream)


def _fail_to_build(
    model: Path,
    eval_data: Path,
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> str:
    """Runs a build that must fail with exit code 1 and leave nothing; returns its only line of error."""
    command = ["build_models", "build", "--model", str(model), "--out", str(out)]
    monkeypatch.setattr(sys, "argv", [*command, "--eval-data", str(eval_data)])
    capfd.readouterr()
    with pytest.raises(SystemExit) as ended:
        run_command_line()
    assert ended.value.code == 1
    printed = capfd.readouterr()
    assert printed.out == ""
    (error,) = [line for line in printed.err.splitlines() if not line.startswith("exporting ")]
    assert error.startswith("error: ")
    assert not out.parent.exists() or list(out.parent.iterdir()) == []
    return error


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_empty, "is no model folder: it has neither modules.json nor config.json"),
        (_cut("config.json"), "config.json is not JSON"),
        (_cut("modules.json"), "modules.json is not JSON"),
        (_cut("tokenizer.json"), "tokenizer.json is no tokenizer"),
        (_cut("model.safetensors"), "cannot read the model in"),
        (_loop("config.json"), "cannot read"),
        (_loop("model.safetensors"), "cannot read"),
        (_set(model_type="whisper"), "is of architecture 'whisper'; these can be built: bert"),
        (_set(model_type="new", auto_map={"AutoModel": "a.B"}), "code of its own (auto_map)"),
        (_set(hidden_size=48), "the weights in"),
        (_set(num_attention_heads=5), "cannot read the model in"),
        (_plain, "says nothing of its pooling (it has no modules.json); give --pooling mean, cls"),
        (_hostile, "cannot read the model in"),
    ],
)
def test_damaged_model(
    damage: Damage,
    message: str,
    make_model: Callable[..., Path],
    eval_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Each damage is named in one line; no code of a model's folder is run, and nothing is written."""
    folder = make_model(tmp_path / "model")
    damage(folder)
    error = _fail_to_build(folder, eval_data, tmp_path / "made" / "out", monkeypatch, capfd)
    assert message in error
    assert not (tmp_path / "executed").exists()


def _with_unknown_operators(path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["input_ids"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("PackedAttention", ["x"], ["p"], domain="com.microsoft"),
        helper.make_node("Gelu", ["p"], ["embedding"]),  # of opset 20 and later
    ]
    graph = helper.make_graph(
        nodes,
        "made",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "tokens"])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, None)],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), str(path))


def test_operators_without_a_kernel(
    tiny_model_dir: Path,
    eval_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """A model whose graph needs what ONNX Runtime lacks: each operator is named with its opset."""
    # No model is known that exports and then lacks a kernel, so the graph is made by hand.
    monkeypatch.setattr(TorchModel, "export", lambda _, path: _with_unknown_operators(path))
    printed = _fail_to_build(tiny_model_dir, eval_data, tmp_path / "made" / "out", monkeypatch, capfd)
    assert re.fullmatch(
        r"error: ONNX Runtime \S+ has no CPU kernel for ai\.onnx::Gelu \(opset 17\), "
        r"com\.microsoft::PackedAttention \(opset 1\); this model needs another release of it",
        printed,
    )


def test_pickled_weights_are_read_as_tensors(make_model: Callable[..., Path], tmp_path: Path) -> None:
    """Weights in the older form, a pickle of tensors, give the model that safetensors give."""
    from safetensors.torch import load_file

    folder = make_model(tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    source = describe(resolve(str(folder)))
    assert source.weight_bytes > 100_000
    assert TorchModel(source).dim == 32


def test_link_that_leads_nowhere(tmp_path: Path) -> None:
    """A link to nothing, or to itself, is not looked for in the hub."""
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(SourceError, match="is a link that leads nowhere"):
        resolve(str(loop))


@pytest.mark.skipif(os.getuid() == 0, reason="the superuser reads everything")
def test_folder_that_may_not_be_read(make_model: Callable[..., Path], tmp_path: Path) -> None:
    """A file that may not be read is named with the reason."""
    folder = make_model(tmp_path / "model")
    (folder / "config.json").chmod(0)
    with pytest.raises(SourceError, match=r"cannot read .*config\.json \(Permission denied\)"):
        describe(resolve(str(folder)), pooling=Pooling.MEAN)


def test_model_too_large_for_a_graph(
    make_model: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model beyond protobuf's limit is refused before its export, with its size and the limit."""
    monkeypatch.setattr("build_models.export._MAX_GRAPH_BYTES", 300_000)
    source = describe(resolve(str(make_model(tmp_path / "model"))))
    with pytest.raises(SourceError, match=r"has 0 million parameters, 0\.0 GB in FP32; a graph in one file"):
        TorchModel(source)


@pytest.mark.skipif(exact_here(), reason="this CPU has VNNI or is no x86: it may build such bundles")
def test_target_that_this_cpu_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bundle for VNNI is not built where its quality cannot be measured: wrong usage, one line."""
    monkeypatch.setattr(sys, "argv", ["build_models", "build", "--out", str(tmp_path / "o"), "--cpu", "vnni"])
    with pytest.raises(SystemExit) as ended:
        run_command_line()
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: --cpu vnni needs a CPU with VNNI or AMX to build on")
    assert error.count("\n") == 1
