"""Reads the modules of a sentence-transformers folder: what follows the transformer, as data.

A module that the exported graph would not compute is refused by name, never left out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from build_models.errors import SourceError
from build_models.json_files import read_any_json, read_json
from worker.bundle import Pooling

_POOLING_NAMES = {
    "mean": Pooling.MEAN,
    "cls": Pooling.CLS,
    "max": Pooling.MAX,
    "lasttoken": Pooling.LAST,
    "mean_sqrt_len_tokens": Pooling.MEAN_SQRT_LENGTH,
    "weightedmean": Pooling.WEIGHTED_MEAN,
}
_POOLING_FLAGS = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_lasttoken": "lasttoken",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
}
# Of a Dense module that does not say: the only vector that there is.
_VECTOR = "sentence_embedding"


class Activation(StrEnum):
    """What a Dense module applies to its product; named as in torch."""

    IDENTITY = "Identity"
    TANH = "Tanh"
    RELU = "ReLU"
    GELU = "GELU"


@dataclass(frozen=True)
class Dense:
    """A product with a matrix, after the pooling.

    Attributes:
        folder: Where its weights lie.
        inputs: Length of the vector that it reads.
        outputs: Length of the vector that it gives.
        bias: Whether a vector is added to the product.
        activation: What is applied to the sum.
    """

    folder: Path
    inputs: int
    outputs: int
    bias: bool
    activation: Activation


@dataclass(frozen=True)
class LayerNorm:
    """A layer normalization after the pooling.

    Attributes:
        folder: Where its weights lie.
        dimension: Length of the vector.
    """

    folder: Path
    dimension: int


Step = Dense | LayerNorm


@dataclass(frozen=True)
class Modules:
    """The road from a text to its vector.

    Attributes:
        transformer: Folder of the transformer.
        pooling: How token vectors become the text's vector.
        steps: What is computed of that vector, in order.
        normalize: Whether the vector is brought to unit length at the end.
    """

    transformer: Path
    pooling: Pooling
    steps: tuple[Step, ...]
    normalize: bool


def read_modules(root: Path, *, pooling: Pooling | None = None) -> Modules:
    """Returns the modules of a folder; a pooling that is given goes before the folder's own.

    Raises:
        SourceError: A file is damaged, or a module cannot be built.
    """
    modules = read_any_json(root / "modules.json")
    if not isinstance(modules, list) or not all(isinstance(m, dict) and "type" in m for m in modules):
        raise SourceError(f"{root / 'modules.json'} holds no list of modules; the model folder is damaged")
    # A Dropout only acts in training.
    parts = [(str(m["type"]).rsplit(".", 1)[-1], root / str(m.get("path", ""))) for m in modules]
    parts = [(kind, folder) for kind, folder in parts if kind != "Dropout"]
    kinds = [kind for kind, _ in parts]
    normalize = kinds[-1:] == ["Normalize"]
    steps = parts[2:-1] if normalize else parts[2:]
    if kinds[:2] != ["Transformer", "Pooling"] or not {kind for kind, _ in steps} <= {"Dense", "LayerNorm"}:
        raise SourceError(
            f"{root} is made of the modules {', '.join(kinds) or 'none'}; only Transformer, Pooling, "
            "any number of Dense and LayerNorm, and an optional Normalize, in this order, can be built"
        )
    return Modules(
        transformer=parts[0][1],
        pooling=pooling or read_pooling(parts[1][1] / "config.json"),
        steps=tuple(_read_dense(at) if kind == "Dense" else _read_layer_norm(at) for kind, at in steps),
        normalize=normalize,
    )


def read_pooling(path: Path) -> Pooling:
    """Returns what the config of a Pooling module asks for.

    Raises:
        SourceError: The file cannot be read, or asks for what cannot be built.
    """
    config = read_json(path)
    newer = config.get("pooling_mode")
    if newer is not None:
        names = newer if isinstance(newer, list) else [newer]
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


def _read_dense(folder: Path) -> Dense:
    path = folder / "config.json"
    config = read_json(path)
    ends = {config.get(key) or _VECTOR for key in ("module_input_name", "module_output_name")}
    if ends != {_VECTOR}:
        raise SourceError(
            f"{path} computes of {', '.join(sorted(map(str, ends)))}; only of the text's vector"
        )
    # Without a word on it, the library applies Tanh.
    named = str(config.get("activation_function") or "torch.nn.modules.activation.Tanh")
    activation = named.rsplit(".", 1)[-1]
    if not named.startswith("torch.") or activation not in set(Activation):
        raise SourceError(f"{path} applies {named}; one of {', '.join(Activation)} of torch can be built")
    return Dense(
        folder,
        inputs=_size(path, config, "in_features"),
        outputs=_size(path, config, "out_features"),
        bias=bool(config.get("bias", True)),
        activation=Activation(activation),
    )


def _read_layer_norm(folder: Path) -> LayerNorm:
    path = folder / "config.json"
    return LayerNorm(folder, dimension=_size(path, read_json(path), "dimension"))


def _size(path: Path, config: Mapping[str, Any], name: str) -> int:
    value = config.get(name)
    if not isinstance(value, int) or value < 1:
        raise SourceError(f"{name} is {value!r} in {path}, wanted a length; the model folder is damaged")
    return value
