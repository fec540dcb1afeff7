"""What a model's folder says of itself is read as sentence-transformers reads it, or refused by name."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from build_models.description import SourceModel, describe
from build_models.errors import SourceError
from build_models.sources import ModelFolder
from worker.bundle import Pooling


def _write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A BERT's folder as sentence-transformers writes it, without weights: describing needs none."""
    _write(tmp_path / "config.json", {"model_type": "bert", "max_position_embeddings": 512})
    _write(tmp_path / "tokenizer_config.json", {"model_max_length": 512})
    _write(tmp_path / "sentence_bert_config.json", {"max_seq_length": 256})
    _write(
        tmp_path / "modules.json",
        [
            {"path": "", "type": "sentence_transformers.models.Transformer"},
            {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
            {"path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
        ],
    )
    _write(tmp_path / "1_Pooling" / "config.json", {"pooling_mode_mean_tokens": True})
    return tmp_path


def _describe(folder: Path, **overrules: Any) -> SourceModel:
    return describe(ModelFolder("model", folder), **overrules)


def test_sentence_transformers_folder(folder: Path) -> None:
    """Pooling, normalization and the declared length come from the module's files."""
    model = _describe(folder)
    assert (model.pooling, model.normalize, model.max_tokens) == (Pooling.MEAN, True, 256)
    assert (model.architecture, model.lowercase, model.folder) == ("bert", False, folder)
    assert (model.prompts, model.query_prompt, model.document_prompt) == ({}, "", "")


@pytest.mark.parametrize(
    ("config", "pooling"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, Pooling.CLS),
        ({"pooling_mode_max_tokens": True}, Pooling.MAX),
        ({"pooling_mode_lasttoken": True, "include_prompt": True}, Pooling.LAST),
        ({"embedding_dimension": 32, "pooling_mode": "mean", "include_prompt": True}, Pooling.MEAN),
        ({"pooling_mode": "lasttoken"}, Pooling.LAST),
        ({"pooling_mode": ["cls"]}, Pooling.CLS),
    ],
)
def test_pooling_forms(folder: Path, config: dict[str, Any], pooling: Pooling) -> None:
    """Both forms of a pooling config are read: flags, and the newer name."""
    _write(folder / "1_Pooling" / "config.json", config)
    assert _describe(folder).pooling is pooling


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}, "mean \\+ cls"),
        ({"pooling_mode": ["mean", "max"]}, "mean \\+ max"),
        ({"pooling_mode_weightedmean_tokens": True}, "weightedmean"),
        ({"pooling_mode_mean_sqrt_len_tokens": True}, "mean_sqrt_len_tokens"),
        ({"pooling_mode": "attention"}, "attention"),
        ({}, "of no kind"),
        ({"pooling_mode": "mean", "include_prompt": False}, "include_prompt"),
    ],
)
def test_pooling_that_cannot_be_built(folder: Path, config: dict[str, Any], named: str) -> None:
    """A pooling that the graph would not compute is refused by name, never replaced."""
    _write(folder / "1_Pooling" / "config.json", config)
    with pytest.raises(SourceError, match=named):
        _describe(folder)


def test_pooling_overruled(folder: Path) -> None:
    """What the command line says of pooling and length goes before the folder's own word."""
    _write(folder / "1_Pooling" / "config.json", {"pooling_mode": "attention"})
    model = _describe(folder, pooling=Pooling.CLS, normalize=False, max_tokens=512)
    assert (model.pooling, model.normalize, model.max_tokens) == (Pooling.CLS, False, 512)


def test_dense_module_is_refused(folder: Path) -> None:
    """A module that would change the vector is named, not left out."""
    modules = json.loads((folder / "modules.json").read_text())
    modules.insert(2, {"path": "2_Dense", "type": "sentence_transformers.models.Dense"})
    _write(folder / "modules.json", modules)
    with pytest.raises(SourceError, match="Dense"):
        _describe(folder)


def test_newer_module_types_and_subfolder(folder: Path) -> None:
    """Module types of newer releases are understood, and a transformer may lie in a folder of its own."""
    (folder / "0_Transformer").mkdir()
    for name in ("config.json", "sentence_bert_config.json", "tokenizer_config.json"):
        (folder / name).rename(folder / "0_Transformer" / name)
    _write(
        folder / "modules.json",
        [
            {"path": "0_Transformer", "type": "sentence_transformers.base.modules.transformer.Transformer"},
            {"path": "1_Pooling", "type": "sentence_transformers.sentence_transformer.modules.Pooling"},
        ],
    )
    model = _describe(folder)
    assert (model.folder, model.max_tokens, model.normalize) == (folder / "0_Transformer", 256, False)


def test_plain_folder(tmp_path: Path) -> None:
    """A plain Hugging Face folder gets mean pooling, unit length and the length of its tokenizer."""
    _write(tmp_path / "config.json", {"model_type": "distilbert", "max_position_embeddings": 512})
    _write(tmp_path / "tokenizer_config.json", {"model_max_length": 384})
    model = _describe(tmp_path)
    assert (model.pooling, model.normalize, model.max_tokens) == (Pooling.MEAN, True, 384)


@pytest.mark.parametrize(
    ("config", "tokenizer", "declared", "expected"),
    [
        ({"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1}, 512, None, 512),
        ({"model_type": "xlm-roberta", "max_position_embeddings": 514, "pad_token_id": 1}, 10**30, None, 512),
        ({"model_type": "mpnet", "max_position_embeddings": 514, "pad_token_id": 7}, 512, 384, 384),
        ({"model_type": "mpnet", "max_position_embeddings": 514}, 10**30, 600, 512),
        ({"model_type": "bert", "max_position_embeddings": 128}, 512, 256, 128),
        ({"model_type": "bert", "max_position_embeddings": 512}, 128, 256, 256),
        ({"model_type": "bert", "max_position_embeddings": 512}, 128, None, 128),
    ],
)
def test_longest_input(
    folder: Path, config: dict[str, Any], tokenizer: int, declared: int | None, expected: int
) -> None:
    """No text is longer than the positions reach, counted from where each architecture starts counting."""
    _write(folder / "config.json", config)
    _write(folder / "tokenizer_config.json", {"model_max_length": tokenizer})
    _write(folder / "sentence_bert_config.json", {"max_seq_length": declared})
    assert _describe(folder).max_tokens == expected


@pytest.mark.parametrize("wanted", [0, 2, 513])
def test_length_out_of_range(folder: Path, wanted: int) -> None:
    """A length that the model cannot read is refused with the range that it can."""
    with pytest.raises(SourceError, match="from 3 to 512"):
        _describe(folder, max_tokens=wanted)


def test_older_name_of_the_transformer_config(folder: Path) -> None:
    """Old folders name the file with the length after the architecture."""
    (folder / "sentence_bert_config.json").rename(folder / "sentence_roberta_config.json")
    _write(folder / "sentence_roberta_config.json", {"max_seq_length": 64, "do_lower_case": True})
    model = _describe(folder)
    assert (model.max_tokens, model.lowercase) == (64, True)


@pytest.mark.parametrize(
    ("config", "prompts", "query", "document"),
    [
        (
            {"prompts": {"query": "q: ", "passage": "p: "}},
            {"query": "q: ", "passage": "p: "},
            "query",
            "passage",
        ),
        ({"prompts": {"query": "", "document": ""}}, {}, "", ""),
        ({"prompts": {"x": "x: "}, "default_prompt_name": "x"}, {"x": "x: "}, "x", "x"),
        (
            {"prompts": {"query": "q: ", "document": ""}, "default_prompt_name": "query"},
            {"query": "q: "},
            "query",
            "",
        ),
        ({"prompts": {"x": "x: "}, "default_prompt_name": None}, {"x": "x: "}, "", ""),
    ],
)
def test_prompts(
    folder: Path, config: dict[str, Any], prompts: dict[str, str], query: str, document: str
) -> None:
    """Queries and documents get the prompts that sentence-transformers would give them."""
    _write(folder / "config_sentence_transformers.json", config)
    model = _describe(folder)
    assert (dict(model.prompts), model.query_prompt, model.document_prompt) == (prompts, query, document)


def test_unknown_default_prompt(folder: Path) -> None:
    """A default prompt that is not there is a damaged folder, and said so."""
    _write(folder / "config_sentence_transformers.json", {"prompts": {}, "default_prompt_name": "query"})
    with pytest.raises(SourceError, match=r"default_prompt_name is 'query'"):
        _describe(folder)


def test_unsupported_architecture(folder: Path) -> None:
    """Another architecture is refused by name, with those that can be built."""
    _write(folder / "config.json", {"model_type": "t5"})
    with pytest.raises(SourceError, match=r"'t5'.*bert, distilbert"):
        _describe(folder)


@pytest.mark.parametrize("text", ["{", "[]", "\udcff"])
def test_damaged_config(folder: Path, text: str) -> None:
    """A config that is not JSON, or no object, is named with its path."""
    (folder / "config.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(SourceError, match=r"config\.json"):
        _describe(folder)


def test_no_model(tmp_path: Path) -> None:
    """A folder that is no model is refused with what was looked for."""
    with pytest.raises(SourceError, match=r"neither modules\.json nor config\.json"):
        _describe(tmp_path)


def test_tiny_model(make_model: Callable[..., Path], tmp_path: Path) -> None:
    """The models that tests are made with are read as they were meant."""
    model = _describe(make_model(tmp_path / "m", "mpnet", pooling=Pooling.MAX, prompts={"query": "q: "}))
    assert (model.architecture, model.pooling, model.max_tokens, model.query_prompt) == (
        "mpnet",
        Pooling.MAX,
        128,
        "query",
    )
