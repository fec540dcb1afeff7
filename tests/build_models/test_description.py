"""What a model's folder says of itself is read as sentence-transformers reads it, or refused by name."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from build_models.description import SourceModel, describe
from build_models.errors import SourceError
from build_models.modules import Activation, Dense, LayerNorm
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
        ({"pooling_mode_weightedmean_tokens": True}, Pooling.WEIGHTED_MEAN),
        ({"pooling_mode": "mean_sqrt_len_tokens"}, Pooling.MEAN_SQRT_LENGTH),
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
        ({"pooling_mode": 3}, "pooling 3"),
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


def _insert(folder: Path, kind: str, config: dict[str, Any]) -> None:
    modules = json.loads((folder / "modules.json").read_text())
    path = f"{len(modules)}_{kind}"
    modules.insert(-1, {"path": path, "type": f"sentence_transformers.models.{kind}"})
    _write(folder / "modules.json", modules)
    _write(folder / path / "config.json", config)


def test_modules_after_the_pooling(folder: Path) -> None:
    """Dense and LayerNorm are read in their order; what only acts in training is passed over."""
    dense = {"in_features": 8, "out_features": 4, "bias": False}
    _insert(folder, "Dense", dense | {"activation_function": "torch.nn.modules.linear.Identity"})
    _insert(folder, "Dropout", {"dropout": 0.2})
    _insert(folder, "LayerNorm", {"dimension": 4})
    _insert(folder, "Dense", {"in_features": 4, "out_features": 2})
    assert _describe(folder).steps == (
        Dense(folder / "3_Dense", inputs=8, outputs=4, bias=False, activation=Activation.IDENTITY),
        LayerNorm(folder / "5_LayerNorm", dimension=4),
        Dense(folder / "6_Dense", inputs=4, outputs=2, bias=True, activation=Activation.TANH),
    )


@pytest.mark.parametrize(
    ("kind", "config", "named"),
    [
        ("LSTM", {}, r"Transformer, Pooling, LSTM, Normalize; only"),
        ("Normalize", {}, r"Pooling, Normalize, Normalize; only"),
        ("Dense", {"in_features": 8}, "out_features is None"),
        ("LayerNorm", {"dimension": "8"}, "dimension is '8'"),
        ("Dense", {"activation_function": "torch.nn.modules.activation.Mish"}, "applies torch.*Mish; one of"),
        ("Dense", {"activation_function": "elsewhere.Tanh"}, r"applies elsewhere\.Tanh; one of"),
        ("Dense", {"module_input_name": "token_embeddings"}, "token_embeddings; only of the text's vector"),
    ],
)
def test_module_that_cannot_be_built(folder: Path, kind: str, config: dict[str, Any], named: str) -> None:
    """A module that would change the vector otherwise than the graph would is named, not left out."""
    _insert(folder, kind, config)
    with pytest.raises(SourceError, match=named):
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
    """A plain Hugging Face folder gets unit length, its tokenizer's length, and the pooling it is told."""
    _write(tmp_path / "config.json", {"model_type": "distilbert", "max_position_embeddings": 512})
    _write(tmp_path / "tokenizer_config.json", {"model_max_length": 384})
    model = _describe(tmp_path, pooling=Pooling.CLS)
    assert (model.pooling, model.normalize, model.max_tokens) == (Pooling.CLS, True, 384)
    _write(tmp_path / "1_Pooling" / "config.json", {"pooling_mode": "mean"})
    assert _describe(tmp_path).pooling is Pooling.MEAN


def test_pooling_that_nobody_declares(tmp_path: Path) -> None:
    """No pooling is guessed: one line says what to give; an architecture that cannot be built comes first."""
    _write(tmp_path / "config.json", {"model_type": "bert"})
    with pytest.raises(SourceError, match=r"says nothing of its pooling.*give --pooling mean, cls"):
        _describe(tmp_path)
    _write(tmp_path / "config.json", {"model_type": "whisper"})
    with pytest.raises(SourceError, match="of architecture 'whisper'"):
        _describe(tmp_path)


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
        ({"model_type": "t5", "n_positions": 400}, 10**30, None, 400),
        ({"model_type": "mt5"}, 10**30, 600, 512),
        ({"model_type": "modernbert", "max_position_embeddings": 8192}, 8192, None, 8192),
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
    """Another architecture is refused by name, with those that can be built; code of its own is never run."""
    _write(folder / "config.json", {"model_type": "whisper"})
    with pytest.raises(SourceError, match=r"'whisper'; these can be built: bert, distilbert"):
        _describe(folder)
    _write(folder / "config.json", {"model_type": "new", "auto_map": {"AutoModel": "modeling.NewModel"}})
    with pytest.raises(SourceError, match=r"'new'.*code of its own \(auto_map\), which is never run"):
        _describe(folder)


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        ({"rope_scaling": {"type": "longrope"}}, "longrope"),
        ({"rope_parameters": {"full_attention": {"rope_type": "default"}}}, ""),
        ({"rope_parameters": {"full_attention": {"rope_type": "made-up"}}}, "made-up"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}, ""),
    ],
)
def test_rotary_positions_that_depend_on_the_text(folder: Path, config: dict[str, Any], kind: str) -> None:
    """Frequencies that change with a text's length cannot be exported, and are refused by name."""
    _write(folder / "config.json", {"model_type": "modernbert", "max_position_embeddings": 512} | config)
    if not kind:
        assert _describe(folder).max_tokens == 256
        return
    with pytest.raises(SourceError, match=f"stretches its rotary positions by '{kind}'"):
        _describe(folder)


@pytest.mark.parametrize("declared", ["long", 0, [512]])
def test_declared_length_that_is_none(folder: Path, declared: Any) -> None:
    """A declared length that is no number of tokens is a damaged folder, and said so."""
    _write(folder / "sentence_bert_config.json", {"max_seq_length": declared})
    with pytest.raises(SourceError, match="max_seq_length is"):
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
