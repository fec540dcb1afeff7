"""The FP32 model as a graph: what every recipe starts from and is compared with."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from build_models.candidates import Candidate, make_candidate, write_tokenizer
from build_models.description import SourceModel
from build_models.export import TorchModel, check_tokenizer
from build_models.graphs.calibrate import Ranges, activation_ranges
from build_models.graphs.optimize import check_operators, optimize
from build_models.parity import ShapeParity, check_parity
from build_models.progress import say
from build_models.quality.judgements import EvalSet
from build_models.recipes import FP32, Recipe
from worker.bundle import Bundle
from worker.session import Session
from worker.tokenizer import Tokenizer

# Texts that activations are measured on. With all-MiniLM-L6-v2, 40 texts gave ranges as good as 150.
_CALIBRATION_TEXTS = 120


@dataclass(frozen=True)
class ExportedModel:
    """A model that was exported and proven equal to torch.

    Attributes:
        source: What it was made of.
        reference: The lean FP32 graph as a candidate.
        parity: The proof, shape by shape.
        vocabulary: How many token ids there are.
        ranges: What its activations look like on real texts; none until `calibrated`.
    """

    source: SourceModel
    reference: Candidate
    parity: tuple[ShapeParity, ...]
    vocabulary: int
    ranges: Ranges = field(default_factory=dict)

    def calibrated(self, texts: Sequence[NDArray[np.int64]]) -> "ExportedModel":
        """Returns the model with the ranges of its activations on texts, token ids `[tokens]` each."""
        return replace(self, ranges=activation_ranges(self.reference.bundle.model, texts))

    def make(self, recipe: Recipe, folder: Path) -> Candidate:
        """Makes a recipe's candidate in a folder of its name within `folder`.

        Raises:
            GraphError: The recipe cannot be made of this graph, or not run here.
        """
        bundle = self.reference.bundle
        place = folder / recipe.name.replace("/", "-")
        candidate = make_candidate(
            self.source, recipe, bundle.model, bundle.tokenizer, place, bundle.manifest.dim, self.ranges
        )
        check_operators(candidate.bundle.model)
        return candidate


def export_model(model: TorchModel, source: SourceModel, folder: Path) -> ExportedModel:
    """Exports a model into `folder`, and compares the graph with torch.

    Raises:
        ExportError: It cannot be exported, or computes something else.
        GraphError: It has operators that cannot run here.
    """
    kind = f"{source.architecture}, {source.pooling} pooling, {source.max_tokens} tokens"
    say(f"exporting {source.name}: {kind}")
    raw, lean, tokenizer = folder / "raw.onnx", folder / "lean.onnx", folder / "tokenizer.json"
    model.export(raw)
    check_operators(raw)
    optimize(raw, lean)
    raw.unlink()
    check_operators(lean)
    write_tokenizer(source, tokenizer)
    check_tokenizer(source, tokenizer)
    reference = make_candidate(source, FP32, lean, tokenizer, folder / "reference", model.dim)
    lean.unlink()
    parity = check_parity(model, Session(reference.bundle), source.max_tokens)
    return ExportedModel(source, reference, parity, model.vocabulary)


def calibration_ids(bundle: Bundle, sets: Sequence[EvalSet]) -> list[NDArray[np.int64]]:
    """Returns token ids `[tokens]` of texts of all sets, of every length from the shortest to the longest.

    Documents and queries in equal parts, evenly spaced in the order of their lengths. What is measured on
    them is a range a channel, from which nothing can be learnt of what answers which query.
    """
    tokenizer = Tokenizer(bundle.tokenizer, bundle.manifest.max_tokens)
    share = max(1, _CALIBRATION_TEXTS // (2 * len(sets)))
    texts = []
    for data in sets:
        for some in (data.documents.values(), data.queries.values()):
            by_length = sorted(some, key=lambda text: (len(text), text))
            places = np.linspace(0, len(by_length) - 1, min(share, len(by_length))).round().astype(int)
            texts += [by_length[place] for place in places]
    return [tokens.ids for tokens in tokenizer.encode(texts)]
