"""The architectures that can be built, each with what its export must know; the tests prove each one.

No torch here: which class reads a folder is a name, and `export` looks it up.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from build_models.errors import SourceError


@dataclass(frozen=True)
class Architecture:
    """What sets one architecture apart from a BERT.

    Attributes:
        loader: Class of transformers that reads the part of a checkpoint that texts need.
        positions_after_padding: Whether positions start after the padding id, and so leave fewer than the
            table has rows.
        fixed_padding: Padding id that the code assumes whatever the config says; None where it reads it.
        masks_given: Whether the model gets its attention masks ready made, because the ones that it would
            make itself cannot be exported. Such models also keep a cache, which is switched off.
    """

    loader: str = "AutoModel"
    positions_after_padding: bool = False
    fixed_padding: int | None = None
    masks_given: bool = False


_BERT_LIKE = Architecture()
_ROBERTA_LIKE = Architecture(positions_after_padding=True)
_DECODER = Architecture(masks_given=True)

# `model_type` of a config to what it means here.
ARCHITECTURES: Mapping[str, Architecture] = {
    "bert": _BERT_LIKE,
    "distilbert": _BERT_LIKE,
    "roberta": _ROBERTA_LIKE,
    "xlm-roberta": _ROBERTA_LIKE,
    "camembert": _ROBERTA_LIKE,
    "mpnet": Architecture(positions_after_padding=True, fixed_padding=1),
    "electra": _BERT_LIKE,
    "albert": _BERT_LIKE,
    "ernie": _BERT_LIKE,
    "modernbert": _BERT_LIKE,
    "nomic_bert": _BERT_LIKE,
    "gte": _BERT_LIKE,
    "eurobert": _BERT_LIKE,
    "deberta": _BERT_LIKE,
    "deberta-v2": _BERT_LIKE,
    "t5": Architecture(loader="T5EncoderModel"),
    "mt5": Architecture(loader="MT5EncoderModel"),
    "qwen3": _DECODER,
    "gemma3_text": _DECODER,
}

# Ways to stretch rotary positions whose frequencies do not depend on the length of the text at hand: those
# of the traced example hold for every text. `dynamic` starts beyond the longest input that is built.
_FIXED_FREQUENCIES = frozenset({"default", "linear", "dynamic", "yarn", "llama3", "proportional"})
# Names of the longest input, in positions, in the configs of the table's architectures.
_POSITIONS = ("max_position_embeddings", "n_positions")
_USUAL_POSITIONS = 512


def read_architecture(folder: Path, config: Mapping[str, Any]) -> str:
    """Returns the architecture that a config names.

    Raises:
        SourceError: It is none of the table, needs code of its own, or stretches its positions by the text.
    """
    name = config.get("model_type")
    if name not in ARCHITECTURES:
        own = (
            "its config.json points at code of its own (auto_map), which is never run; "
            if config.get("auto_map")
            else ""
        )
        raise SourceError(
            f"{folder} is of architecture {name!r}; {own}these can be built: {', '.join(ARCHITECTURES)}"
        )
    for kind in _rope_types(config):
        if kind not in _FIXED_FREQUENCIES:
            raise SourceError(
                f"{folder} stretches its rotary positions by {kind!r}, which depends on each text's length; "
                f"these can be built: {', '.join(sorted(_FIXED_FREQUENCIES))}"
            )
    return str(name)


def read_positions(config: Mapping[str, Any]) -> int:
    """Returns how many tokens the positions of a config reach.

    Raises:
        SourceError: The config says it in no number.
    """
    name = next((name for name in _POSITIONS if name in config), _POSITIONS[0])
    rows = config.get(name, _USUAL_POSITIONS)
    if not isinstance(rows, int):
        raise SourceError(f"{name} is {rows!r} in config.json, wanted a number")
    architecture = ARCHITECTURES[str(config["model_type"])]
    if not architecture.positions_after_padding:
        return rows
    fixed = architecture.fixed_padding
    padding = int(config.get("pad_token_id", 1)) if fixed is None else fixed
    return rows - padding - 1


def _rope_types(config: Mapping[str, Any]) -> set[str]:
    found: set[str] = set()
    for name in ("rope_parameters", "rope_scaling"):
        value = config.get(name)
        # One description, or one for each kind of layer.
        for entry in (value, *value.values()) if isinstance(value, dict) else ():
            kind = (entry.get("rope_type") or entry.get("type")) if isinstance(entry, dict) else None
            if kind is not None:
                found.add(str(kind))
    return found
