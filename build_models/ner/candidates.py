"""A tagger's graphs: the FP32 one that everything is compared with, and one of each recipe.

A candidate is no bundle yet: its manifest is not on disk.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from build_models.candidates import write_tokenizer
from build_models.description import SourceModel
from build_models.export import check_tokenizer
from build_models.graphs.calibrate import activation_ranges
from build_models.graphs.optimize import check_operators, optimize
from build_models.graphs.quantize import make_graph
from build_models.ner.config import SEED, NerBuildConfig
from build_models.ner.data import Split, read_split
from build_models.ner.model import TorchTagger
from build_models.ner.parity import check_tagger
from build_models.ner.words import WordTokenizer
from build_models.parity import ShapeParity
from build_models.progress import say
from build_models.recipes import FP32, Recipe
from worker.bundle import MODEL, TOKENIZER, Bundle, Manifest, Task, file_sha256, fingerprint
from worker.session import TokenSession

_CALIBRATION_SENTENCES = 300  # of the training split; arbitrary


@dataclass(frozen=True)
class Exported:
    """The FP32 tagger as a graph: what every recipe starts from and is compared with.

    Attributes:
        source: The model that was read.
        reference: The graph with tokenizer and manifest.
        parity: The graph beside torch.
        vocabulary: How many token ids there are.
    """

    source: SourceModel
    reference: Bundle
    parity: tuple[ShapeParity, ...]
    vocabulary: int


def export_tagger(source: SourceModel, model: TorchTagger, folder: Path) -> Exported:
    """Exports a tagger into a folder, and proves that the graph computes what torch does.

    Raises:
        ExportError: The exporter failed, or the graph or the tokenizer differs from the model's.
        GraphError: The graph has operators that cannot run here.
    """
    say(f"exporting {source.name}: {source.architecture}, {len(model.labels)} labels")
    raw, lean, tokenizer = folder / "raw.onnx", folder / "lean.onnx", folder / TOKENIZER
    model.export(raw, source.name)
    check_operators(raw)
    optimize(raw, lean)
    raw.unlink()
    check_operators(lean)
    write_tokenizer(source, tokenizer)
    check_tokenizer(source, tokenizer)
    place = folder / "reference"
    place.mkdir()
    make_graph(FP32, lean, place / MODEL)
    reference = _bundle(source, model.labels, FP32, tokenizer, place)
    parity = check_tagger(model, TokenSession(reference), source.max_tokens)
    return Exported(source, reference, parity, model.vocabulary)


def make_candidate(config: NerBuildConfig, exported: Exported, recipe: Recipe, folder: Path) -> Bundle:
    """Makes the files of a recipe's bundle in `folder`.

    Raises:
        GraphError: The recipe cannot be made of this graph.
        EvaluationError: The recipe is calibrated, and a training split cannot be read.
    """
    reference = exported.reference
    ranges = None
    if recipe.calibrated:
        ranges = activation_ranges(reference.model, _calibration(config, exported))
    place = folder / recipe.name
    place.mkdir()
    make_graph(recipe, reference.model, place / MODEL, ranges)
    check_operators(place / MODEL)
    return _bundle(exported.source, reference.manifest.labels, recipe, reference.tokenizer, place)


def _calibration(config: NerBuildConfig, exported: Exported) -> list[NDArray[np.int64]]:
    """Returns token ids `[tokens]` of training sentences: never those that the gate measures on."""
    tokenizer = WordTokenizer(exported.reference.tokenizer, exported.source.max_tokens)
    sentences = [row for folder in config.eval_data for row in read_split(folder, Split.TRAIN)]
    picked = np.random.default_rng(SEED).permutation(len(sentences))[:_CALIBRATION_SENTENCES]
    windows = tokenizer.encode([sentences[place].words for place in picked])
    return [window.ids for sentence in windows for window in sentence]


def _bundle(
    source: SourceModel, labels: tuple[str, ...], recipe: Recipe, tokenizer: Path, place: Path
) -> Bundle:
    """Returns the bundle of a graph that lies in `place`; its manifest is not on disk."""
    shutil.copyfile(tokenizer, place / TOKENIZER)
    files = {name: file_sha256(place / name) for name in (MODEL, TOKENIZER)}
    manifest = Manifest(
        name=source.name,
        fingerprint=fingerprint(
            files,
            max_tokens=source.max_tokens,
            pooling=source.pooling,
            normalize=False,
            prompts={},
            query_prompt="",
            document_prompt="",
            recipe=recipe.settings(),
            labels=labels,
        ),
        dim=len(labels),
        max_tokens=source.max_tokens,
        pooling=source.pooling,
        normalize=False,
        recipe=recipe.settings(),
        files=files,
        task=Task.NER,
        labels=labels,
    )
    return Bundle(place, manifest)
