"""Reads what a model's folder says of itself: pooling, normalization, lengths and prompts.

Two forms are read: sentence-transformers (with `modules.json`) and plain Hugging Face.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from build_models.architectures import read_architecture, read_positions
from build_models.errors import SourceError
from build_models.json_files import read_json
from build_models.modules import Modules, Step, read_modules, read_pooling
from build_models.sources import ModelFolder
from worker.bundle import Pooling

# Prompt names that sentence-transformers gives to documents, in its order of preference.
_DOCUMENT_PROMPTS = ("document", "passage", "corpus")
# A tokenizer without a limit of its own says so with a number like this one or larger.
_NO_TOKENIZER_LIMIT = 1_000_000
_SHORTEST = 3  # tokens of an input with room for one word between the special tokens
# Where a Pooling module lies by habit; a folder may have one without a list of its modules.
_POOLING_FOLDER = "1_Pooling"


@dataclass(frozen=True)
class SourceModel:
    """A model that can be built.

    Attributes:
        name: What people call the model.
        folder: Where config, weights and tokenizer of the transformer lie.
        architecture: `model_type` of its config; a key of `architectures.ARCHITECTURES`.
        pooling: How token vectors become the text's vector.
        steps: What is computed of that vector afterwards, in order.
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
    steps: tuple[Step, ...]
    normalize: bool
    max_tokens: int
    lowercase: bool
    prompts: Mapping[str, str]
    query_prompt: str
    document_prompt: str

    @property
    def weight_bytes(self) -> int:
        """Size of the weights in the folder.

        Raises:
            SourceError: A file of weights cannot be read.
        """
        found = list(self.folder.glob("*.safetensors")) or list(self.folder.glob("*.bin"))
        try:
            return sum(file.stat().st_size for file in found)
        except OSError as error:
            raise SourceError(
                f"cannot read {error.filename} ({error.strerror}); the model folder is incomplete"
            ) from error


def describe(
    model: ModelFolder,
    *,
    pooling: Pooling | None = None,
    normalize: bool | None = None,
    max_tokens: int | None = None,
) -> SourceModel:
    """Returns the description of the model in a folder; arguments that are not None overrule it.

    A plain Hugging Face folder gets unit length, and must be told its pooling: a guess would be served as if
    it were the model.

    Raises:
        SourceError: The folder is no model, says nothing of its pooling, or has a part that cannot be built.
    """
    modules = _modules(model.path, pooling)
    folder = modules.transformer
    config = read_json(folder / "config.json")
    architecture = read_architecture(folder, config)
    declared = _read_transformer_module(folder)
    prompts, query, document = _read_prompts(model.path)
    return SourceModel(
        name=model.name,
        folder=folder,
        architecture=architecture,
        pooling=modules.pooling,
        steps=modules.steps,
        normalize=modules.normalize if normalize is None else normalize,
        max_tokens=_max_tokens(folder, config, declared.get("max_seq_length"), max_tokens),
        lowercase=bool(declared.get("do_lower_case", False)),
        prompts=prompts,
        query_prompt=query,
        document_prompt=document,
    )


def _modules(root: Path, pooling: Pooling | None) -> Modules:
    if (root / "modules.json").is_file():
        return read_modules(root, pooling=pooling)
    if not (root / "config.json").is_file():
        raise SourceError(f"{root} is no model folder: it has neither modules.json nor config.json")
    declared = root / _POOLING_FOLDER / "config.json"
    if pooling is None and not declared.is_file():
        # Named first: with another architecture, no pooling would help.
        read_architecture(root, read_json(root / "config.json"))
        raise SourceError(
            f"{root} says nothing of its pooling (it has no modules.json); "
            f"give --pooling {', '.join(Pooling)}, as its authors used it"
        )
    return Modules(root, pooling or read_pooling(declared), steps=(), normalize=True)


def _read_transformer_module(folder: Path) -> dict[str, Any]:
    # Older folders name this file after the architecture: sentence_roberta_config.json and so on.
    found = sorted(folder.glob("sentence_*_config.json"))
    return read_json(found[0]) if found else {}


def _max_tokens(folder: Path, config: Mapping[str, Any], declared: Any, wanted: int | None) -> int:
    limits = {"position embeddings": read_positions(config)}
    tokenizer = read_json(folder / "tokenizer_config.json", missing_is_empty=True).get("model_max_length")
    if isinstance(tokenizer, int) and 0 < tokenizer < _NO_TOKENIZER_LIMIT:
        limits["tokenizer"] = tokenizer
    if wanted is not None:
        limit = limits["position embeddings"]
        if not _SHORTEST <= wanted <= limit:
            raise SourceError(
                f"{wanted} tokens at most were asked for; this model reads from {_SHORTEST} to {limit}"
            )
        return wanted
    if declared is not None:
        if not isinstance(declared, int) or declared < _SHORTEST:
            raise SourceError(
                f"max_seq_length is {declared!r} in {folder}, wanted {_SHORTEST} tokens or more"
            )
        limits = {"position embeddings": limits["position embeddings"], "declared": declared}
    return min(limits.values())


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
