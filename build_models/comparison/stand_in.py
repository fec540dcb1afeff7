"""A model of a well-known size with random weights: its size and speed are those of the real one.

Time on a CPU depends on shapes, not on what the weights are; quality has no meaning here, so none is
measured.
"""

import shutil
from pathlib import Path

import torch
import transformers

from build_models.comparison.config import ReferenceSize
from build_models.errors import OutputError
from worker.bundle import TOKENIZER

# `distilbert-base-uncased`: 66 million parameters in 6 layers, 768 wide, 12 heads (Sanh et al. 2019).
SETTINGS = {
    ReferenceSize.DISTILBERT: {
        "vocab_size": 30522,
        "max_position_embeddings": 512,
        "dim": 768,
        "n_layers": 6,
        "n_heads": 12,
        "hidden_dim": 3072,
    }
}
_SEED = 0  # of the weights; arbitrary


def weight_bytes(size: ReferenceSize) -> int:
    """Returns how many bytes the weights of a size take in FP32, nearly: matrices and tables alone."""
    known = SETTINGS[size]
    width, inner = known["dim"], known["hidden_dim"]
    tables = (known["vocab_size"] + known["max_position_embeddings"]) * width
    return 4 * (tables + known["n_layers"] * (4 * width * width + 2 * width * inner))


def write_stand_in(size: ReferenceSize, tokenizer: Path, folder: Path) -> None:
    """Writes the folder of a model as a build reads it: config, random weights, tokenizer.

    Args:
        size: What it is the size of.
        tokenizer: A `tokenizer.json`; any will do, because ids are brought into the vocabulary.
        folder: Is made.

    Raises:
        OutputError: It cannot be written.
    """
    config = transformers.AutoConfig.for_model(str(size), **SETTINGS[size])
    with torch.random.fork_rng():
        torch.manual_seed(_SEED)
        model = transformers.AutoModel.from_config(config)
    transformers.logging.disable_progress_bar()
    try:
        model.save_pretrained(folder)
        shutil.copyfile(tokenizer, folder / TOKENIZER)
    except Exception as error:  # safetensors tells a full disk by an error of its own
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise OutputError(
            f"cannot write a model of {size}'s size to {folder} ({reason}); free some space or set TMPDIR"
        ) from error
