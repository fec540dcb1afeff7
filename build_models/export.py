"""The model in torch: the reference that everything is compared with, and its export to ONNX.

Code that a model's folder brings along is never run. The exported graph reads token ids of texts of one
length and nothing else: no padding, so no attention mask.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from build_models.architectures import ARCHITECTURES, Architecture
from build_models.description import SourceModel
from build_models.errors import ExportError, SourceError
from build_models.heads import load_steps, masked_pool, pool
from build_models.masks import layer_masks
from build_models.tracing import write_graph
from worker.session import OUTPUT
from worker.tokenizer import Tokenizer

# What tokenizers treat differently: case, accents, scripts without spaces, controls, and an over-long text.
_TEXTS = (
    "How do I sort a list in place?",
    "Ünïcode, naïve café — ‘quotes’ and 3.14% of №5\tand a tab",
    "東京は日本の首都です。 Привет, мир! 🙂",
    "",
    "word " * 2000,
)
# Protobuf reads messages below 2 GiB; what is not weights takes a few MB of one.
_MAX_GRAPH_BYTES = 2**31 - 2**26
# Parts of a checkpoint that no text vector depends on.
_UNUSED_WEIGHTS = ("pooler.",)
# Of everything that is read: nothing is fetched, and no code that a folder brings along is run.
_LOCAL = {"local_files_only": True, "trust_remote_code": False}


class TorchModel:
    """The unmodified model in FP32.

    Raises:
        SourceError: Config or weights cannot be read, weights are missing, or they are too large for a graph.
    """

    def __init__(self, source: SourceModel) -> None:
        self._source = source
        self._architecture = ARCHITECTURES[source.architecture]
        model, missing = load_transformer(self._architecture.loader, source.folder)
        missing = [key for key in missing if not key.startswith(_UNUSED_WEIGHTS)]
        if missing:
            raise SourceError(
                f"the weights in {source.folder} lack {len(missing)} tensors, such as {missing[0]}"
            )
        _check_size(source.name, sum(parameter.numel() for parameter in model.parameters()))
        self._model = model.eval().requires_grad_(requires_grad=False)
        self._steps, self.dim = load_steps(source.steps, int(model.config.hidden_size))
        self.vocabulary = int(model.config.vocab_size)
        self.padding_id = int(model.config.pad_token_id or 0)

    def reference(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        """Returns what the model computes of padded texts with an attention mask.

        Args:
            ids: Token ids, int64 `[texts, tokens]`.
            mask: 1 for tokens, 0 for padding, int64 `[texts, tokens]`.

        Returns:
            Vectors, float32 `[texts, dim]`.
        """
        attention = torch.from_numpy(mask)
        with torch.inference_mode():
            hidden = self._model(input_ids=torch.from_numpy(ids), attention_mask=attention).last_hidden_state
            pooled = masked_pool(hidden, attention.unsqueeze(-1).to(hidden.dtype), self._source.pooling)
            vectors = self._steps(pooled)
            if self._source.normalize:
                vectors = torch.nn.functional.normalize(vectors, dim=-1)
        result: NDArray[np.float32] = vectors.numpy()
        return result

    def export(self, path: Path) -> None:
        """Writes the graph `input_ids [batch, tokens] int64 → embedding [batch, dim] float32`.

        Raises:
            ExportError: The exporter failed.
        """
        graph = _MaskFree(self._model, self._steps, self._source, self._architecture)
        write_graph(graph, path, OUTPUT, ("batch",), self._source.name, self.vocabulary)


def _check_size(name: str, parameters: int) -> None:
    size = parameters * torch.float32.itemsize
    if size > _MAX_GRAPH_BYTES:
        raise SourceError(
            f"{name} has {parameters / 1e6:.0f} million parameters, {size / 1e9:.1f} GB in FP32; a graph in "
            f"one file holds less than {_MAX_GRAPH_BYTES / 1e9:.1f} GB (protobuf): take a smaller model"
        )


def load_transformer(kind: str, folder: Path, **settings: Any) -> tuple[Any, list[str]]:
    """Returns a model of a folder in FP32, and the names of the tensors that its weights lack.

    Args:
        kind: Name of a class of transformers with `from_pretrained`.
        folder: Where config and weights lie.
        settings: Entries of the config that are overruled.

    Raises:
        SourceError: Config or weights cannot be read.
    """
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        model, loading = getattr(transformers, kind).from_pretrained(
            folder,
            attn_implementation="eager",
            dtype=torch.float32,
            output_loading_info=True,
            # Told with the missing ones, by name; the library's own error only points at its log.
            **{"ignore_mismatched_sizes": True, **_LOCAL, **settings},
        )
    except Exception as error:  # the library raises whatever its readers raise
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise SourceError(f"cannot read the model in {folder}: {reason}") from error
    # A tensor of another shape is told with both shapes.
    return model, sorted({*loading["missing_keys"], *(name for name, *_ in loading["mismatched_keys"])})


class _MaskFree(torch.nn.Module):
    """The model as it is served: token ids alone in, the text's vector out."""

    def __init__(
        self,
        model: torch.nn.Module,
        steps: torch.nn.Module,
        source: SourceModel,
        architecture: Architecture,
    ) -> None:
        super().__init__()
        self._model = model
        self._steps = steps
        self._pooling = source.pooling
        self._normalize = source.normalize
        self._architecture = architecture

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        given = unpadded_inputs(self._model, self._architecture, input_ids)
        hidden = self._model(**given).last_hidden_state
        vectors = self._steps(pool(hidden, self._pooling))
        return torch.nn.functional.normalize(vectors, dim=-1) if self._normalize else vectors


def unpadded_inputs(model: Any, architecture: Architecture, input_ids: torch.Tensor) -> dict[str, Any]:
    """Returns all that a model reads of texts without padding, so that it needs no mask.

    Args:
        model: The transformer, without a head.
        architecture: What it is.
        input_ids: Token ids, int64 `[texts, tokens]`.
    """
    if architecture.masks_given:
        masks = layer_masks(model.config, input_ids)
        return {"input_ids": input_ids, "attention_mask": masks, "use_cache": False}
    given = {"input_ids": input_ids, "attention_mask": None}
    embeddings = getattr(model, "embeddings", None)
    if getattr(embeddings, "token_type_embeddings", None) is not None:
        # Said outright, because the model would otherwise gather them from a buffer by position.
        given["token_type_ids"] = torch.zeros_like(input_ids)
    return given


def check_tokenizer(source: SourceModel, path: Path) -> None:
    """Compares a `tokenizer.json` as the worker reads it with the model's own tokenizer.

    Raises:
        ExportError: They give other ids to a text.
    """
    own = transformers.AutoTokenizer.from_pretrained(source.folder, **_LOCAL)
    served = Tokenizer(path, source.max_tokens)
    for text, tokens in zip(_TEXTS, served.encode(_TEXTS), strict=True):
        read = text.lower() if source.lowercase else text
        wanted = list(own(read, truncation=True, max_length=source.max_tokens)["input_ids"])
        if wanted != tokens.ids.tolist():
            raise ExportError(
                f"tokenizer.json of {source.name} gives {text[:40]!r} other ids than the model's own "
                f"tokenizer: {tokens.ids.tolist()[:8]}, wanted {wanted[:8]}; the model folder is inconsistent"
            )


def write_fast_tokenizer(folder: Path, target: Path) -> None:
    """Converts an older tokenizer (vocabulary files only) to `tokenizer.json`.

    Raises:
        SourceError: There is no tokenizer, or none that converts.
    """
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **_LOCAL)
        tokenizer.backend_tokenizer.save(str(target))
    except Exception as error:  # the library raises whatever its readers raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SourceError(f"{folder} has no tokenizer.json and none could be made: {reason}") from error
