"""Reads what a model's folder says of itself: pooling, normalization, lengths and prompts.

Two forms are read: sentence-transformers (with `modules.json`) and plain Hugging Face. Anything that the
exported graph would not compute, such as a Dense module, is refused rather than left out.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from build_models.errors import SourceError
from build_models.sources import ModelFolder
from worker.bundle import Pooling

# Architectures whose export the tests prove equal to torch, and whether their positions start after the
# padding id (and so leave fewer positions than the table has rows).
ARCHITECTURES: Mapping[str, bool] = {
    "bert": False,
    "distilbert": False,
    "roberta": True,
    "xlm-roberta": True,
    "camembert": True,
    "mpnet": True,
}

_POOLING_NAMES = {
    "mean": Pooling.MEAN,
    "cls": Pooling.CLS,
    "max": Pooling.MAX,
    "lasttoken": Pooling.LAST,
}
_POOLING_FLAGS = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_lasttoken": "lasttoken",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
}
# Prompt names that sentence-transformers gives to documents, in its order of preference.
_DOCUMENT_PROMPTS = ("document", "passage", "corpus")
# A tokenizer without a limit of its own says so with a number like this one or larger.
_NO_TOKENIZER_LIMIT = 1_000_000


@dataclass(frozen=True)
class SourceModel:
    """A model that can be built.

    Attributes:
        name: What people call the model.
        folder: Where config, weights and tokenizer of the transformer lie.
        architecture: `model_type` of its config; a key of `ARCHITECTURES`.
        pooling: How token vectors become the text's vector.
        normalize: Whether the text's vector is brought to unit length.
        max_tokens: Longest input in tokens, special tokens included.
        lowercase: Whether texts are lowercased before they are tokenized.
        prompts: Prompt name to the text that is put in front.
        query_prompt: Name of the prompt of queries; "" for none.
        document_prompt: Name of the prompt of documents; "" for none.
    """

    name: str
    folder: Path
    architecture: str
    pooling: Pooling
    normalize: bool
    max_tokens: int
    lowercase: bool
    prompts: Mapping[str, str]
    query_prompt: str
    document_prompt: str

    @property
    def weight_bytes(self) -> int:
        """Size of the weights in the folder."""
        found = list(self.folder.glob("*.safetensors")) or list(self.folder.glob("*.bin"))
        return sum(file.stat().st_size for file in found)


def describe(
    model: ModelFolder,
    *,
    pooling: Pooling | None = None,
    normalize: bool | None = None,
    max_tokens: int | None = None,
) -> SourceModel:
    """Returns the description of the model in a folder; arguments that are not None overrule it.

    A plain Hugging Face folder says nothing of pooling: it gets mean pooling and unit length.

    Raises:
        SourceError: The folder is no model, or has a part that cannot be built.
    """
    has_modules = (model.path / "modules.json").is_file()
    if not has_modules and not (model.path / "config.json").is_file():
        raise SourceError(f"{model.path} is no model folder: it has neither modules.json nor config.json")
    folder, declared_pooling, declared_normalize = (
        _read_modules(model.path, overruled=pooling is not None)
        if has_modules
        else (model.path, Pooling.MEAN, True)
    )
    config = read_json(folder / "config.json")
    architecture = _architecture(folder, config)
    declared = _read_transformer_module(folder)
    prompts, query, document = _read_prompts(model.path)
    return SourceModel(
        name=model.name,
        folder=folder,
        architecture=architecture,
        pooling=pooling or declared_pooling,
        normalize=declared_normalize if normalize is None else normalize,
        max_tokens=_max_tokens(folder, config, declared.get("max_seq_length"), max_tokens),
        lowercase=bool(declared.get("do_lower_case", False)),
        prompts=prompts,
        query_prompt=query,
        document_prompt=document,
    )


def read_json(path: Path, *, missing_is_empty: bool = False) -> dict[str, Any]:
    """Returns the object in a JSON file.

    Raises:
        SourceError: The file cannot be read or holds no object.
    """
    value = _read_any_json(path, missing_is_empty=missing_is_empty)
    if not isinstance(value, dict):
        raise SourceError(f"{path} holds no JSON object; the model folder is damaged")
    return value


def _read_any_json(path: Path, *, missing_is_empty: bool) -> Any:
    if missing_is_empty and not path.exists():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SourceError(f"cannot read {path} ({error.strerror}); the model folder is incomplete") from error
    except ValueError as error:
        raise SourceError(f"{path} is not JSON ({error}); the model folder is damaged") from error


def _read_modules(root: Path, *, overruled: bool) -> tuple[Path, Pooling, bool]:
    modules = _read_any_json(root / "modules.json", missing_is_empty=False)
    if not isinstance(modules, list) or not all(isinstance(m, dict) and "type" in m for m in modules):
        raise SourceError(f"{root / 'modules.json'} holds no list of modules; the model folder is damaged")
    kinds = [str(module["type"]).rsplit(".", 1)[-1] for module in modules]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise SourceError(
            f"{root} is made of the modules {', '.join(kinds) or 'none'}; "
            "only Transformer, Pooling and an optional Normalize, in this order, can be built"
        )
    pooling_folder = root / str(modules[1].get("path", ""))
    pooling = Pooling.MEAN if overruled else _read_pooling(pooling_folder / "config.json")
    return root / str(modules[0].get("path", "")), pooling, "Normalize" in kinds


def _read_transformer_module(folder: Path) -> dict[str, Any]:
    # Older folders name this file after the architecture: sentence_roberta_config.json and so on.
    found = sorted(folder.glob("sentence_*_config.json"))
    return read_json(found[0]) if found else {}


def _read_pooling(path: Path) -> Pooling:
    config = read_json(path)
    newer = config.get("pooling_mode")
    if newer is not None:
        names = [newer] if isinstance(newer, str) else list(newer)
    else:
        names = [name for flag, name in _POOLING_FLAGS.items() if config.get(flag)]
    if len(names) != 1 or names[0] not in _POOLING_NAMES:
        raise SourceError(
            f"{path} asks for pooling {' + '.join(map(str, names)) or 'of no kind'}; "
            f"one of {', '.join(_POOLING_NAMES)} can be built"
        )
    if config.get("include_prompt") is False:
        raise SourceError(
            f"{path} leaves the prompt's tokens out of the pooling (include_prompt); not supported"
        )
    return _POOLING_NAMES[names[0]]


def _architecture(folder: Path, config: Mapping[str, Any]) -> str:
    architecture = config.get("model_type")
    if architecture not in ARCHITECTURES:
        raise SourceError(
            f"{folder} is of architecture {architecture!r}; these can be built: {', '.join(ARCHITECTURES)}"
        )
    return str(architecture)


def _max_tokens(folder: Path, config: Mapping[str, Any], declared: Any, wanted: int | None) -> int:
    limits = {"position embeddings": _positions(config)}
    tokenizer = read_json(folder / "tokenizer_config.json", missing_is_empty=True).get("model_max_length")
    if isinstance(tokenizer, int) and 0 < tokenizer < _NO_TOKENIZER_LIMIT:
        limits["tokenizer"] = tokenizer
    if wanted is not None:
        limit = limits["position embeddings"]
        if not 3 <= wanted <= limit:
            raise SourceError(f"{wanted} tokens at most were asked for; this model reads from 3 to {limit}")
        return wanted
    if declared is not None:
        limits = {"position embeddings": limits["position embeddings"], "declared": int(declared)}
    return min(limits.values())


def _positions(config: Mapping[str, Any]) -> int:
    rows = config.get("max_position_embeddings", 512)
    if not isinstance(rows, int):
        raise SourceError(f"max_position_embeddings is {rows!r} in config.json, wanted a number")
    if not ARCHITECTURES[str(config["model_type"])]:
        return rows
    # MPNet's code fixes its padding id at 1, whatever its config says.
    padding = 1 if config["model_type"] == "mpnet" else int(config.get("pad_token_id", 1))
    return rows - padding - 1


def _read_prompts(root: Path) -> tuple[dict[str, str], str, str]:
    config = read_json(root / "config_sentence_transformers.json", missing_is_empty=True)
    declared = config.get("prompts") or {}
    prompts = {str(name): str(text) for name, text in declared.items() if text}
    default = config.get("default_prompt_name") or ""
    if default and default not in declared:
        raise SourceError(
            f"{root}: default_prompt_name is {default!r}, the prompts are {', '.join(declared) or 'none'}"
        )
    default = default if default in prompts else ""
    query = "query" if "query" in declared else default
    document = next((name for name in _DOCUMENT_PROMPTS if name in declared), default)
    return prompts, query if query in prompts else "", document if document in prompts else ""
