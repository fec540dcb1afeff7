"""The tagger in torch: the reference that the served graph is compared with, and its export.

The exported graph reads the token ids of texts of one length and nothing else, and gives the logits of
every token.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from build_models.architectures import ARCHITECTURES
from build_models.errors import OutputError, SourceError
from build_models.export import load_transformer, unpadded_inputs
from build_models.tracing import write_graph
from worker.session import LOGITS

_UNUSED_WEIGHTS = "pooler."  # a part of some transformers that no tag depends on
_LOADER = "AutoModelForTokenClassification"


class TorchTagger:
    """An unmodified token-classification model in FP32.

    Attributes:
        network: The model; train it, or read it through the methods here.
        labels: What each place of a token's logits stands for.
        vocabulary: How many token ids there are.
        padding_id: What texts are padded with.
    """

    def __init__(self, network: Any, labels: tuple[str, ...]) -> None:
        self.network = network
        self.labels = labels
        config = network.config
        self.vocabulary = int(config.vocab_size)
        self.padding_id = int(config.pad_token_id or 0)

    def logits(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        """Returns the logits of padded texts: int64 `[texts, tokens]` each, to `[texts, tokens, labels]`."""
        self.network.eval()
        with torch.inference_mode():
            output = self.network(
                input_ids=torch.from_numpy(ids).to(self.network.device),
                attention_mask=torch.from_numpy(mask).to(self.network.device),
            )
        result: NDArray[np.float32] = output.logits.float().cpu().numpy()
        return result

    def export(self, path: Path, name: str) -> None:
        """Writes the graph `input_ids [batch, tokens] int64 → logits [batch, tokens, labels] float32`.

        Raises:
            ExportError: The exporter failed.
        """
        write_graph(_MaskFree(self.network), path, LOGITS, ("batch", "tokens"), name, self.vocabulary)

    def save(self, folder: Path) -> None:
        """Writes config and weights into a folder, as transformers reads them.

        Raises:
            OutputError: They cannot be written.
        """
        try:
            self.network.save_pretrained(folder)
        except Exception as error:  # safetensors tells a full disk by an error of its own
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise OutputError(
                f"cannot write the tagger to {folder} ({reason}); free some space or give another --out"
            ) from error


def load_tagger(folder: Path) -> TorchTagger:
    """Reads a trained tagger.

    Raises:
        SourceError: The folder holds no token-classification model with all its weights.
    """
    network, missing = load_transformer(_LOADER, folder)
    body, head = _split(network, missing)
    if head:
        raise SourceError(
            f"the model in {folder} has no token-classification head: it gives vectors, not tags; "
            "train one with 'python -m build_models finetune'"
        )
    _check_body(folder, body)
    names = network.config.id2label
    network.eval().requires_grad_(requires_grad=False)
    return TorchTagger(network, tuple(str(names[place]) for place in range(len(names))))


def new_tagger(folder: Path, labels: tuple[str, ...], seed: int) -> TorchTagger:
    """Returns a model with a new head for some labels, ready to be trained.

    Raises:
        SourceError: The folder holds no model with all its weights.
    """
    torch.manual_seed(seed)  # draws the head
    network, missing = load_transformer(
        _LOADER,
        folder,
        num_labels=len(labels),
        id2label=dict(enumerate(labels)),
        label2id={label: place for place, label in enumerate(labels)},
        ignore_mismatched_sizes=True,  # a head for other labels is left behind
    )
    _check_body(folder, _split(network, missing)[0])
    network.set_attn_implementation("sdpa")  # only the export needs the eager form
    return TorchTagger(network, labels)


def _split(network: Any, missing: list[str]) -> tuple[list[str], list[str]]:
    """Returns the missing tensors of the transformer that tags depend on, and those of the head."""
    prefix = network.base_model_prefix + "."
    inner = [key for key in missing if key.startswith(prefix)]
    head = [key for key in missing if not key.startswith(prefix)]
    return [key for key in inner if not key.startswith(prefix + _UNUSED_WEIGHTS)], head


def _check_body(folder: Path, missing: list[str]) -> None:
    if missing:
        raise SourceError(f"the weights in {folder} lack {len(missing)} tensors, such as {missing[0]}")


class _MaskFree(torch.nn.Module):
    """The tagger as it is served: token ids alone in, logits out."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self._network = network
        self._architecture = ARCHITECTURES[network.config.model_type]

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        given = unpadded_inputs(self._network.base_model, self._architecture, input_ids)
        logits: torch.Tensor = self._network(**given).logits
        return logits
