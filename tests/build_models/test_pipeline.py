"""A build from a model's folder to a bundle that the worker can serve, and the gate in between."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from build_models.config import BuildConfig
from build_models.errors import BuildError, GateError, OutputError, SourceError
from build_models.pipeline import build
from build_models.quality.encode import encoder
from build_models.quality.gate import Gate
from build_models.quality.judgements import read_eval_set
from build_models.quality.speed import GROUP_TOKENS, group_cosine
from build_models.recipes import RECIPES, parse_recipes
from worker.bundle import Bundle, file_sha256, read_bundle
from worker.session import Session
from worker.tokenizer import Tokenizer


def _config(model: Path, out: Path, eval_data: Path, **other: Any) -> BuildConfig:
    settings: dict[str, Any] = {
        "recipes": parse_recipes("int8-dynamic"),
        "eval_data": (eval_data,),
        "gate": Gate(
            min_retention=0.5, min_bound=0, min_overlap=0
        ),  # random weights round worse than trained ones
    }
    return BuildConfig(model=str(model), out=out, **settings | other)


@pytest.fixture(scope="session")
def fragile_model(make_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with huge activations that nothing reads: harmless in FP32, fatal to one scale a tensor."""
    from safetensors.numpy import load_file, save_file

    folder = make_model(tmp_path_factory.mktemp("models") / "fragile")
    weights = load_file(folder / "model.safetensors")
    for layer in ("encoder.layer.0", "encoder.layer.1"):
        for writer, reader in (
            ("intermediate.dense", "output.dense"),
            ("attention.self.value", "attention.output.dense"),
        ):
            weights[f"{layer}.{writer}.bias"][0] = 1e4
            weights[f"{layer}.{reader}.weight"][:, 0] = 0
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="session")
def fragile_data(fragile_model: Path, eval_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Evaluation data on which the fragile model is perfect in FP32: its own best hits are the answers."""
    folder = tmp_path_factory.mktemp("fragile-data")
    out = tmp_path_factory.mktemp("bundles") / "fragile-fp32"
    build(_config(fragile_model, out, eval_data, recipes=parse_recipes("fp32")))
    bundle, data = read_bundle(out), read_eval_set(eval_data)
    session, tokenizer = Session(bundle), Tokenizer(bundle.tokenizer, bundle.manifest.max_tokens)
    documents, queries = (
        session.embed([tokens.ids for tokens in tokenizer.encode(list(texts.values()))])
        for texts in (data.documents, data.queries)
    )
    names = list(data.documents)
    best = [names[row] for row in (queries @ documents.T).argmax(axis=1)]
    for name in ("corpus.parquet", "queries.parquet"):
        shutil.copy(eval_data / name, folder)
    judged = {"query_id": list(data.queries), "doc_id": best, "relevance": [1] * len(best)}
    pq.write_table(pa.table(judged), folder / "qrels.parquet")
    return folder


@pytest.mark.parametrize("fixture", ["tiny_bundle", "tiny_fp32_bundle"])
def test_bundle_is_complete(fixture: str, request: pytest.FixtureRequest) -> None:
    """Checksums cover every file but the manifest, and the manifest says how good and how fast it is."""
    bundle = read_bundle(request.getfixturevalue(fixture))
    manifest = bundle.manifest
    assert set(manifest.files) | {"manifest.json"} == {file.name for file in bundle.path.iterdir()}
    assert (manifest.name, manifest.dim, manifest.max_tokens) == ("tiny-bert", 32, 128)
    assert manifest.recipe == RECIPES[str(manifest.recipe["name"])].settings()
    assert manifest.quality["retention"] >= 0.5
    assert 0 < manifest.quality["words/overlap@10"] <= 1
    assert {"ms@32", "ms@128", "fp32/ms@32", "fp32/ms@128"} == set(manifest.speed)
    assert all(value > 0 for value in manifest.speed.values())
    assert manifest.versions["onnxruntime"]
    assert "avx2" in manifest.cpu_flags or os.uname().machine != "x86_64"


def test_report(tiny_bundle: Path) -> None:
    """The report says size, time, quality, operators and settings, for programs and for people."""
    report = json.loads((tiny_bundle / "report.json").read_text())
    (candidate,) = report["candidates"]
    assert candidate["model_bytes"] == (tiny_bundle / "model.onnx").stat().st_size
    assert candidate["refusal"] is None
    assert candidate["qualities"][0]["queries"] == 40
    assert list(candidate["qualities"][0]["candidate"]) == ["nDCG@10", "R@10", "R@100"]
    assert candidate["operators"]["DynamicQuantizeMatMul"] > 0
    assert [tuple(result["shape"]) for result in report["parity"]][:2] == [(1, 3), (2, 17)]
    text = (tiny_bundle / "report.md").read_text()
    for wanted in (
        "size, MB",
        "words nDCG@10",
        "one text of 128 tokens",
        "overlap@10",
        "Operators:",
        "torch",
    ):
        assert wanted in text


def test_same_input_same_fingerprint(
    tiny_model_dir: Path, tiny_bundle: Path, eval_data: Path, tmp_path: Path
) -> None:
    """Building again gives the same graph and the same fingerprint, wherever it is built."""
    again = build(_config(tiny_model_dir, tmp_path / "again", eval_data, eval_queries=12)).manifest
    first = read_bundle(tiny_bundle).manifest
    assert again.fingerprint == first.fingerprint
    assert again.files["model.onnx"] == first.files["model.onnx"]


def test_what_decides_a_vector_changes_the_fingerprint(
    make_model: Callable[..., Path],
    tiny_bundle: Path,
    tiny_fp32_bundle: Path,
    eval_data: Path,
    tmp_path: Path,
) -> None:
    """Recipe, prompts, length and pooling each give another fingerprint."""
    prompted = make_model(tmp_path / "model", prompts={"query": "query: ", "document": "text: "})
    made = [
        build(_config(prompted, tmp_path / "prompts", eval_data)).manifest,
        build(_config(prompted, tmp_path / "length", eval_data, max_tokens=64)).manifest,
    ]
    assert (made[0].query_prompt, made[0].document_prompt) == ("query", "document")
    assert made[1].max_tokens == 64
    found = [*made, read_bundle(tiny_bundle).manifest, read_bundle(tiny_fp32_bundle).manifest]
    assert len({manifest.fingerprint for manifest in found}) == 4


def test_encoder_is_the_served_session(tiny_bundle: Path, some_docstrings: list[Any]) -> None:
    """Quality is measured on what the worker's session computes, bit for bit, prompts included."""
    read = read_bundle(tiny_bundle)
    prompted = dataclasses.replace(
        read.manifest, prompts={"q": "how to ", "d": "text "}, query_prompt="q", document_prompt="d"
    )
    texts = [docstring.text for docstring in some_docstrings[:50]]
    with encoder(Bundle(read.path, prompted)) as encode:
        (documents, _), (queries, tokens) = encode.documents(texts, "d"), encode.queries(texts[:5], "q")
    session, tokenizer = Session(read), Tokenizer(read.tokenizer, read.manifest.max_tokens)
    assert tokens.tolist() == [len(t.ids) for t in tokenizer.encode([f"how to {text}" for text in texts[:5]])]
    for found, front in ((documents, "text "), (queries, "how to ")):
        ids = [tokens.ids for tokens in tokenizer.encode([front + text for text in texts[: len(found)]])]
        np.testing.assert_array_equal(found, session.embed(ids))


def test_groups_change_int8_but_not_fp32(tiny_bundle: Path, tiny_fp32_bundle: Path) -> None:
    """What forbids groups is measured: neighbours move a dynamically quantized vector, and no FP32 one."""
    from build_models.candidates import Candidate

    texts = [f"the number {number} and a word" for number in range(40)]
    int8 = Candidate(RECIPES["int8-dynamic"], read_bundle(tiny_bundle))
    fp32 = Candidate(RECIPES["fp32"], read_bundle(tiny_fp32_bundle))
    assert group_cosine(fp32, texts) > 0.999999
    assert group_cosine(int8, texts) < group_cosine(fp32, texts)
    assert group_cosine(fp32, ["one text has no neighbour"]) == 0


def test_gate(fragile_model: Path, fragile_data: Path, tmp_path: Path) -> None:
    """A model that INT8 destroys ends with exit code 3, one line, a report, and no bundle."""
    command = [sys.executable, "-m", "build_models", "build", "--model", str(fragile_model)]
    command += ["--out", str(tmp_path / "out"), "--eval-data", str(fragile_data), "--recipes", "int8-dynamic"]
    found = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert found.returncode == 3, found.stderr
    assert found.stdout == ""
    error = found.stderr.splitlines()[-1]
    assert error.startswith(
        f"error: nothing was written to {tmp_path / 'out'}: nDCG@10 on fragile-data0 falls from 1.0000"
    )
    assert "0.9900 wanted" in error
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.report"]
    report = json.loads((tmp_path / "out.report" / "report.json").read_text())
    assert report["candidates"][0]["qualities"][0]["retention"] < 0.99
    assert "refused" in (tmp_path / "out.report" / "report.md").read_text()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_interrupted(
    number: signal.Signals, code: int, tiny_model_dir: Path, some_docstrings: list[Any], tmp_path: Path
) -> None:
    """A build that is interrupted or killed leaves no process behind and nothing servable."""
    names = [str(row) for row in range(20_000)]
    texts = [some_docstrings[row % 500].text for row in range(20_000)]
    pq.write_table(pa.table({"doc_id": names, "text": texts}), tmp_path / "corpus.parquet")
    pq.write_table(pa.table({"query_id": names[:10], "text": ["x"] * 10}), tmp_path / "queries.parquet")
    judged = {"query_id": names[:10], "doc_id": names[:10], "relevance": [1] * 10}
    pq.write_table(pa.table(judged), tmp_path / "qrels.parquet")
    command = [sys.executable, "-m", "build_models", "build", "--model", str(tiny_model_dir)]
    command += ["--out", str(tmp_path / "made" / "out"), "--eval-data", str(tmp_path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as child:
        assert child.stderr is not None
        for line in child.stderr:
            if line.startswith("fp32: documents"):  # its processes are at work
                break
        below = psutil.Process(child.pid).children(recursive=True)
        assert len(below) >= 2
        child.send_signal(number)
        error = child.stderr.read()
        assert child.wait(60) == code
    _, alive = psutil.wait_procs(below, timeout=60)
    assert alive == []
    assert not (tmp_path / "made" / "out").exists()
    if number is not signal.SIGKILL:
        assert list((tmp_path / "made").iterdir()) == []
        assert "Traceback" not in error


def test_next_recipe_after_the_gate(fragile_model: Path, fragile_data: Path, tmp_path: Path) -> None:
    """With several recipes the first that meets the gate is written; the report keeps what was refused."""
    built = build(
        _config(
            fragile_model,
            tmp_path / "out",
            fragile_data,
            recipes=parse_recipes("int8-dynamic,fp32"),
            gate=Gate(min_bound=0, min_overlap=0),
        )
    )
    assert built.manifest.recipe["name"] == "fp32"
    assert [candidate.refusal is None for candidate in built.report.candidates] == [False, True]
    assert read_bundle(tmp_path / "out").manifest.quality["retention"] == 1


def test_migration_saves_a_fragile_model(fragile_model: Path, fragile_data: Path, tmp_path: Path) -> None:
    """Moving scales into the weights keeps a model that one scale a tensor destroys, on integers still."""
    recipes = parse_recipes("int8-dynamic,int8")
    gate = Gate(min_retention=0.9, min_bound=0, min_overlap=0)
    built = build(_config(fragile_model, tmp_path / "out", fragile_data, recipes=recipes, gate=gate))
    plain, migrated = (candidate.qualities[0] for candidate in built.report.candidates)
    assert (built.manifest.recipe["name"], built.manifest.max_group_tokens) == ("int8", GROUP_TOKENS)
    assert plain.document_cosines.mean < 0.5 < 0.99 < migrated.document_cosines.mean
    operators = built.report.candidates[1].operators
    assert operators["MatMulIntegerToFloat"] == 12


def test_force_replaces_a_bundle(
    tiny_model_dir: Path, fragile_model: Path, eval_data: Path, tmp_path: Path
) -> None:
    """A bundle is replaced only with force, and a failed build leaves the old one as it was."""
    out = tmp_path / "out"
    build(_config(tiny_model_dir, out, eval_data, recipes=parse_recipes("fp32")))
    before = file_sha256(out / "manifest.json")
    with pytest.raises(OutputError, match="--force"):
        build(_config(tiny_model_dir, out, eval_data))
    with pytest.raises(SourceError):
        build(_config(eval_data, out, eval_data, force=True))
    with pytest.raises(GateError, match="turn away from FP32's"):
        build(_config(fragile_model, out, eval_data, force=True, gate=Gate(0, 0, min_overlap=0)))
    assert file_sha256(out / "manifest.json") == before
    built = build(_config(tiny_model_dir, out, eval_data, force=True))
    assert read_bundle(out).manifest.fingerprint == built.manifest.fingerprint != before
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["out", "out.report"]


def test_weights_that_are_missing(make_model: Callable[..., Path], eval_data: Path, tmp_path: Path) -> None:
    """A checkpoint that lacks tensors is refused: random ones in their place would be served as a model."""
    from safetensors.numpy import load_file, save_file

    folder = make_model(tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    del weights["encoder.layer.1.output.dense.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        SourceError, match=r"lack 1 tensors, such as encoder\.layer\.1\.output\.dense\.weight"
    ):
        build(_config(folder, tmp_path / "out", eval_data))
    (folder / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(SourceError, match="cannot read the model in"):
        build(_config(folder, tmp_path / "out", eval_data))
    (folder / "tokenizer.json").write_text("{}")
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (
            ["--recipes", "int4"],
            2,
            "error: unknown recipe int4; choose from auto, fast, int8, int8-token, ",
        ),
        (["--recipes", "fp32,fp32"], 2, "error: recipes 'fp32,fp32' name one twice"),
        (["--min-retention", "1.5"], 2, "error: min-retention is 1.5, wanted a share from 0 to 1"),
        (["--min-bound", "2"], 2, "error: min-bound is 2.0, wanted a share from 0 to 1"),
        (["--eval-queries", "5"], 1, "error: evaluation set docstrings has 5 judged queries, wanted 10"),
        (["--eval-queries", "-1"], 2, "error: eval-documents and eval-queries count"),
        (["--pooling", "average"], 2, "error: Invalid value for '--pooling'"),
        (["--model", "./nowhere"], 1, "error: there is no folder ./nowhere"),
    ],
)
def test_command_line_errors(
    arguments: list[str],
    code: int,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Wrong usage is exit code 2 and a failure 1, each one line on stderr and nothing on disk."""
    from build_models.__main__ import run_command_line

    monkeypatch.setattr(sys, "argv", ["build_models", "build", "--out", str(tmp_path / "out"), *arguments])
    with pytest.raises(SystemExit) as ended:
        run_command_line()
    assert ended.value.code == code
    error = capsys.readouterr().err
    assert error.startswith(message)
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_config_is_checked() -> None:
    """A retention that is no share is refused wherever a configuration is made."""
    with pytest.raises(BuildError, match="min-retention"):
        BuildConfig(model="m", out=Path("o"), recipes=parse_recipes("fp32"), gate=Gate(min_retention=-0.1))
