"""`compare` from its arguments to table, JSON and plot, on real bundles that are small."""

import json
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from build_models.canvas import PIXELS
from build_models.comparison.config import CompareConfig, ReferenceSize
from build_models.comparison.queries import exact_queries
from build_models.comparison.result import compare
from build_models.comparison.stand_in import SETTINGS, weight_bytes
from build_models.comparison.table import Comparison
from build_models.comparison.timing import BATCH, Precision, System, time_systems
from build_models.errors import BuildError, EvaluationError, OutputError, SourceError
from build_models.quality.judgements import read_eval_set
from worker.bundle import Task, read_bundle, write_manifest
from worker.errors import BundleError
from worker.session import Session
from worker.tokenizer import Tokenizer

_ROUNDS = 2
_QUERIES = BATCH * _ROUNDS


def _config(*bundles: Path, **other: Any) -> CompareConfig:
    settings: dict[str, Any] = {"queries": _QUERIES}
    return CompareConfig(bundles, **settings | other)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the comparison of this module leaves its files."""
    return tmp_path_factory.mktemp("comparison")


@pytest.fixture(scope="module")
def found(tiny_bundle: Path, tiny_model_dir: Path, eval_data: Path, files: Path) -> Comparison:
    """An INT8 bundle beside its model and that model's export."""
    return compare(
        _config(
            tiny_bundle,
            models=(str(tiny_model_dir),),
            eval_data=(eval_data,),
            plot=files / "plot.png",
            json=files / "figures.json",
        )
    )


def test_a_bundle_stands_beside_torch_and_its_export(
    found: Comparison, tiny_bundle: Path, tiny_model_dir: Path
) -> None:
    """One table with the three rows asked for; every size is that of the file on disk."""
    (table,) = found.tables
    assert [row.precision for row in table.rows] == list(Precision)
    torch_row, export, int8 = table.rows
    assert torch_row.model_bytes == (tiny_model_dir / "model.safetensors").stat().st_size
    assert int8.model_bytes == (tiny_bundle / "model.onnx").stat().st_size
    assert int8.model_bytes < export.model_bytes
    assert table.size_ratio(int8) == pytest.approx(int8.model_bytes / torch_row.model_bytes)
    assert all(row.milliseconds > 0 and row.cpu_milliseconds > 0 for row in table.rows)


def test_quality_is_that_of_the_vectors(found: Comparison, tiny_bundle: Path, eval_data: Path) -> None:
    """Torch and its export rank alike, and INT8's nDCG@10 is the one of a search written out by hand."""
    torch_row, export, int8 = found.tables[0].rows
    assert torch_row.scores[0].value == pytest.approx(export.scores[0].value, abs=1e-3)
    assert torch_row.scores[0].kept == 1.0
    assert int8.scores[0].value == pytest.approx(_ndcg_by_hand(tiny_bundle, eval_data), abs=1e-9)
    assert int8.scores[0].kept == pytest.approx(int8.scores[0].value / torch_row.scores[0].value)
    assert int8.scores[0].bound is not None
    assert int8.scores[0].bound <= int8.scores[0].kept


def _ndcg_by_hand(path: Path, eval_data: Path) -> float:
    """Järvelin and Kekäläinen's measure with one relevant document a query: 1 / log2(1 + rank)."""
    bundle, data = read_bundle(path), read_eval_set(eval_data)
    session, tokenizer = Session(bundle), Tokenizer(bundle.tokenizer, bundle.manifest.max_tokens)
    documents, queries = (
        np.concatenate([session.embed([tokens.ids]) for tokens in tokenizer.encode(list(texts.values()))])
        for texts in (data.documents, data.queries)
    )
    order = np.argsort(-(queries @ documents.T), axis=1, kind="stable")[:, :10]
    names = list(data.documents)
    gains = []
    for query, hits in zip(data.queries, order, strict=True):
        (wanted,) = data.judgements[query]
        ranks = [rank for rank, row in enumerate(hits, start=1) if names[row] == wanted]
        gains.append(1 / np.log2(1 + ranks[0]) if ranks else 0.0)
    return float(np.mean(gains))


def test_json_says_what_the_markdown_says(found: Comparison, files: Path) -> None:
    """Every cell of the Markdown is a figure of the JSON, rounded; nothing is only in one of them."""
    figures = json.loads((files / "figures.json").read_text(encoding="utf-8"))
    assert figures == json.loads(json.dumps(found.to_json()))
    (table,) = figures["tables"]
    lines = [line for line in found.to_markdown().splitlines() if line.startswith("| ")][2:]
    for row, line in zip(table["rows"], lines, strict=True):
        (score,) = row["scores"]
        bound = "" if score["bound"] is None else f" ({score['bound']:.4f})"
        assert [cell.strip() for cell in line.strip("|").split(" | ")] == [
            row["name"],
            f"{row['model_bytes'] / 1e6:.1f}",
            f"{row['model_bytes'] / table['rows'][0]['model_bytes']:.3f}",
            f"{row['milliseconds']:.2f}",
            f"{row['cpu_milliseconds']:.2f}",
            f"{row['cpu_milliseconds'] / table['rows'][0]['cpu_milliseconds']:.3f}",
            f"{score['value']:.4f}",
            f"{score['kept']:.4f}{bound}",
        ]


def test_the_plot_is_a_png_with_every_row(files: Path, found: Comparison) -> None:
    """The plot has a slide's size and ink in the colour of each precision."""
    from matplotlib.image import imread

    data = (files / "plot.png").read_bytes()
    assert struct.unpack(">II", data[16:24]) == PIXELS
    pixels = (np.asarray(imread(str(files / "plot.png")))[..., :3].reshape(-1, 3) * 255).round().astype(int)
    colours = {tuple(pixel) for pixel in pixels.tolist()}
    assert {(204, 121, 167), (213, 94, 0), (0, 114, 178)} <= colours


def test_two_bundles_and_no_model(
    tiny_fp32_bundle: Path, tiny_bundle: Path, eval_data: Path, tmp_path: Path
) -> None:
    """Without a model the first bundle is what ratios refer to, and a line says that torch is left out."""
    found = compare(_config(tiny_fp32_bundle, tiny_bundle, eval_data=(eval_data,)))
    (table,) = found.tables
    assert [row.name for row in table.rows] == ["ONNX FP32", "ONNX INT8 (int8-dynamic)"]
    assert table.rows[0].scores[0].kept == 1.0
    assert "give --model" in found.to_markdown()


def test_a_given_fp32_bundle_is_the_export(
    tiny_fp32_bundle: Path, tiny_bundle: Path, tiny_model_dir: Path, eval_data: Path
) -> None:
    """An FP32 bundle is not exported a second time, and equal recipes are told apart by their folders."""
    bundles = (tiny_fp32_bundle, tiny_bundle, tiny_bundle.parent / "again")
    if not bundles[2].exists():
        bundles[2].symlink_to(tiny_bundle)
    (table,) = compare(
        _config(*bundles, models=(str(tiny_model_dir),), eval_data=(eval_data,), queries=1, tokens=16)
    ).tables
    assert [row.name for row in table.rows] == [
        "PyTorch FP32",
        "ONNX FP32",
        f"ONNX INT8 (int8-dynamic) {tiny_bundle}",
        f"ONNX INT8 (int8-dynamic) {bundles[2]}",
    ]


def test_a_prompt_is_read_by_torch_too(
    make_model: Callable[..., Path], eval_data: Path, tmp_path: Path
) -> None:
    """A model with prompts ranks alike in torch and in its export: both put them in front."""
    from build_models.config import BuildConfig
    from build_models.pipeline import build
    from build_models.quality.gate import Gate
    from build_models.recipes import parse_recipes

    model = make_model(tmp_path / "prompted", prompts={"query": "find this: ", "document": "text: "})
    build(
        BuildConfig(
            str(model),
            tmp_path / "bundle",
            parse_recipes("fp32"),
            eval_data=(eval_data,),
            gate=Gate(0, 0, 0, 0),
        )
    )
    config = _config(tmp_path / "bundle", models=(str(model),), eval_data=(eval_data,), queries=1)
    torch_row, served = compare(config).tables[0].rows
    assert served.scores[0].kept == pytest.approx(1.0, abs=1e-3)
    assert torch_row.scores[0].value < 1


def test_queries_have_exactly_one_length(tiny_bundle: Path, eval_data: Path) -> None:
    """All timed queries have the tokens asked for, special ones included, and go on where one ended."""
    data = read_eval_set(eval_data)
    bundle = read_bundle(tiny_bundle)
    ids = exact_queries(data.documents.values(), 20, 16, bundle.tokenizer)
    assert ids.shape == (20, 16)
    assert len({tuple(row) for row in ids.tolist()}) == 20
    words = " ".join(data.documents.values()).split()
    whole = Tokenizer(bundle.tokenizer, 16).encode([" ".join(words[16:32])])[0].ids
    assert ids[1].tolist() == whole.tolist()
    with pytest.raises(EvaluationError, match="no words"):
        exact_queries([" ", ""], 1, 16, bundle.tokenizer)


def test_a_busy_machine_is_told(found: Comparison) -> None:
    """Wall time well above CPU time is said in both forms; equal times are not."""
    (table,) = found.tables
    idle = replace(table, rows=tuple(replace(row, milliseconds=row.cpu_milliseconds) for row in table.rows))
    loud = replace(idle, rows=(replace(idle.rows[0], milliseconds=1.5 * idle.rows[0].cpu_milliseconds),))
    assert not replace(found, tables=(idle,)).to_json()["busy"]
    assert "was busy" not in replace(found, tables=(idle,)).to_markdown()
    assert replace(found, tables=(idle, loud)).to_json()["busy"]
    assert "up to 1.50 times" in replace(found, tables=(idle, loud)).to_markdown()


def test_too_little_space_is_known_first(
    tiny_bundle: Path, tiny_model_dir: Path, eval_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full temporary folder is one line that says where and what to do, and nothing stays behind."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(OutputError, match="set TMPDIR"):
        compare(_config(tiny_bundle, models=(str(tiny_model_dir),), eval_data=(eval_data,)))
    assert list(tmp_path.iterdir()) == []


def test_the_fastest_way_counts_and_rows_take_turns() -> None:
    """Each system sees every query once after a warm-up; the way with the least CPU time is reported."""
    seen: list[tuple[str, int]] = []

    def run(name: str, work: int) -> Callable[[Any], None]:
        def way(ids: Any) -> None:
            seen.append((name, len(ids)))
            sum(range(work))

        return way

    ids = np.zeros((BATCH + 3, 4), dtype=np.int64)
    one = System(
        "one", Precision.PYTORCH_FP32, 1, {"slow": run("slow", 400_000), "fast": run("fast", 10)}, ids
    )
    two = System("two", Precision.ONNX_INT8, 1, {"only": run("only", 10)}, ids)
    timings = time_systems([one, two], "test")
    assert [timing.way for timing in timings] == ["fast", "only"]
    assert seen[3:] == [
        *[(name, BATCH) for name in ("slow", "fast", "only")],
        *[(name, 3) for name in ("only", "fast", "slow")],
    ]


def test_a_reference_model_has_size_and_speed_only(
    tiny_bundle: Path, eval_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model with random weights goes the real road, here a small one, and the table says what it is."""
    small = {"vocab_size": 300, "max_position_embeddings": 80, "dim": 48, "n_layers": 1, "n_heads": 4}
    monkeypatch.setitem(SETTINGS, ReferenceSize.DISTILBERT, small | {"hidden_dim": 96})
    config = _config(tiny_bundle, eval_data=(eval_data,), reference_size=ReferenceSize.DISTILBERT)
    table = compare(config).tables[1]
    assert [row.precision for row in table.rows] == list(Precision)
    assert table.rows[2].model_bytes < table.rows[1].model_bytes
    assert not any(row.scores for row in table.rows)
    assert "Random weights: size and speed only" in " ".join(table.notes)


def test_the_reference_model_has_the_real_ones_parameters() -> None:
    """DistilBERT's size is 66,362,880 parameters: distilbert-base-uncased without a head."""
    import torch
    import transformers

    size = ReferenceSize.DISTILBERT
    with torch.device("meta"):
        model = transformers.AutoModel.from_config(
            transformers.AutoConfig.for_model(str(size), **SETTINGS[size])
        )
    assert sum(tensor.numel() for tensor in model.parameters()) == 66_362_880
    assert weight_bytes(size) == pytest.approx(4 * 66_362_880, rel=1e-3)


def test_a_folder_that_is_no_bundle_is_named(tmp_path: Path) -> None:
    """Nothing is measured when one of the folders is no bundle."""
    with pytest.raises(BundleError, match="is no bundle"):
        compare(_config(tmp_path))


def test_a_damaged_bundle_is_named(tiny_bundle: Path, tmp_path: Path) -> None:
    """A bundle whose graph was changed is refused by its checksum."""
    for file in tiny_bundle.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(BundleError, match="damaged"):
        compare(_config(tmp_path))


def test_a_model_of_another_shape_is_refused(
    tiny_bundle: Path, eval_data: Path, make_model: Callable[..., Path], tmp_path: Path
) -> None:
    """A model whose vectors have another length is named with both lengths."""
    model = make_model(tmp_path / "wide")
    config = json.loads((model / "config.json").read_text())
    config |= {"hidden_size": 64}
    (model / "config.json").write_text(json.dumps(config))
    import transformers

    transformers.BertModel(transformers.BertConfig(**config)).save_pretrained(model)
    with pytest.raises(BuildError, match=r"32 dimensions.*64 dimensions"):
        compare(_config(tiny_bundle, models=(str(model),), eval_data=(eval_data,)))


@pytest.mark.parametrize("there", ["nothing", "tagging"])
def test_data_of_another_task_is_refused(there: str, tiny_bundle: Path, tmp_path: Path) -> None:
    """Labelled sentences cannot judge embeddings, and an empty folder judges nothing."""
    if there == "tagging":
        (tmp_path / "test.parquet").write_bytes(b"")
    with pytest.raises(BuildError, match="is for ner" if there == "tagging" else "no evaluation set"):
        compare(_config(tiny_bundle, eval_data=(tmp_path,)))


def test_a_file_that_cannot_be_written_is_known_first(tmp_path: Path) -> None:
    """A missing folder of the plot is said before a bundle is even looked for."""
    for option in ("plot", "json"):
        with pytest.raises(OutputError, match="there is no folder"):
            compare(_config(tmp_path / "bundle", **{option: tmp_path / "missing" / "file"}))


def test_queries_longer_than_the_model_reads_are_refused(tiny_bundle: Path, eval_data: Path) -> None:
    """The table never times a length that the bundle would have cut."""
    with pytest.raises(BuildError, match="128 tokens at most"):
        compare(_config(tiny_bundle, eval_data=(eval_data,), tokens=129))


def test_bundles_of_two_models_are_refused(tiny_bundle: Path, tmp_path: Path, eval_data: Path) -> None:
    """Vectors of different length are not put into one table."""
    for file in tiny_bundle.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    write_manifest(tmp_path, replace(read_bundle(tiny_bundle).manifest, dim=64))
    with pytest.raises(BuildError, match="not of one model"):
        compare(_config(tiny_bundle, tmp_path, eval_data=(eval_data,)))


def test_a_tagger_needs_labelled_sentences(tiny_bundle: Path, tmp_path: Path) -> None:
    """A tagger's bundle without data is refused: there are no sentences that every machine has."""
    for file in tiny_bundle.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    write_manifest(tmp_path, replace(read_bundle(tiny_bundle).manifest, task=Task.NER, labels=("O",)))
    with pytest.raises(EvaluationError, match="labelled sentences"):
        compare(_config(tmp_path))


def test_two_models_of_one_task_are_refused(tiny_bundle: Path, tiny_model_dir: Path) -> None:
    """Which of two models the bundles were built from is not guessed."""
    with pytest.raises(BuildError, match="give one of them"):
        compare(_config(tiny_bundle, models=(str(tiny_model_dir), str(tiny_model_dir))))
    with pytest.raises(SourceError):
        compare(_config(tiny_bundle, models=("/no/such/folder",)))


def test_the_command_ends_with_one_line(tiny_bundle: Path, tmp_path: Path) -> None:
    """Wrong usage is 2, what cannot be done 1, each with one line on stderr and nothing written."""
    for code, arguments in (
        (2, []),
        (2, [str(tiny_bundle), "--queries", "0"]),
        (1, [str(tmp_path), "--json", str(tmp_path / "out.json")]),
    ):
        result = subprocess.run(
            [sys.executable, "-m", "build_models", "compare", *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert result.returncode == code
        assert result.stderr.startswith("error: ")
        assert result.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
