"""What taggers find in test splits: torch in padded batches, a bundle's graph one sentence at a time."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from build_models.ner.config import SEED
from build_models.ner.data import Sentence, entity_types_of
from build_models.ner.model import TorchTagger
from build_models.ner.predict import predict
from build_models.ner.report import SetQuality
from build_models.ner.scores import Counts, count, f1_loss, quality
from build_models.ner.tagger import Tagger
from build_models.ner.words import Window, WordTokenizer
from build_models.progress import progress
from build_models.recipes import FP32
from worker.bundle import Bundle
from worker.cpus import read_cpus


@dataclass(frozen=True)
class GateSet:
    """The test split of a set.

    Attributes:
        name: What reports call it.
        folder: Where it lies.
        sentences: Its labelled sentences.
        cut: How many of them were cut into windows; known once they were encoded.
    """

    name: str
    folder: Path
    sentences: Sequence[Sentence]
    cut: int = 0


@dataclass(frozen=True)
class Wanted:
    """What the FP32 tagger finds in a set.

    Attributes:
        data: The set.
        torch: By torch, in padded batches.
        reference: By its graph, one sentence at a time.
    """

    data: GateSet
    torch: Counts
    reference: Counts


def find_reference(model: TorchTagger, reference: Bundle, data: GateSet) -> Wanted:
    """Returns what the FP32 tagger finds in a set, by torch and by its graph.

    Raises:
        ModelError: The graph could not compute.
    """
    tokenizer = WordTokenizer(reference.tokenizer, reference.manifest.max_tokens)
    windows = tokenizer.encode([row.words for row in data.sentences])
    data = replace(data, cut=sum(len(found) > 1 for found in windows))
    return Wanted(data, torch_counts(model, windows, data), served_counts(reference, data))


def torch_counts(model: TorchTagger, windows: Sequence[Sequence[Window]], data: GateSet) -> Counts:
    """Returns what torch finds in a set, in padded batches.

    Args:
        model: The tagger.
        windows: Of each sentence of the set, as its tokenizer cuts them.
        data: The set.
    """
    tags = predict(model, windows, [len(row.words) for row in data.sentences], f"torch: {data.name}")
    return _count(model.labels, data, tags)


def served_counts(bundle: Bundle, data: GateSet) -> Counts:
    """Returns what a bundle finds in a set, each sentence tagged alone.

    As many at a time as there are CPUs: runtime and tokenizer leave the GIL.

    Raises:
        ModelError: The graph could not compute.
    """
    tagger = Tagger(bundle)
    tags: list[list[str]] = []
    label = f"{bundle.manifest.recipe['name']}: {data.name}"
    with (
        progress(label, len(data.sentences), "sentences") as advance,
        ThreadPoolExecutor(read_cpus().usable) as threads,
    ):
        for found in threads.map(tagger.tag, [row.words for row in data.sentences]):
            tags.append(found)
            advance(1)
    return _count(tagger.labels, data, tags)


def _count(labels: Sequence[str], data: GateSet, tags: Sequence[Sequence[str]]) -> Counts:
    return count([row.tags for row in data.sentences], tags, entity_types_of(labels))


def compare(candidate: Bundle, wanted: Wanted) -> SetQuality:
    """Returns what a candidate reaches on a set beside the FP32 tagger.

    Raises:
        ModelError: The graph could not compute.
    """
    data = wanted.data
    same = candidate.manifest.recipe["name"] == FP32.name  # measuring again would compare a run with itself
    counts = wanted.reference if same else served_counts(candidate, data)
    types = entity_types_of(candidate.manifest.labels)
    words = [len(row.words) for row in data.sentences]
    return SetQuality(
        name=data.name,
        sentences=len(data.sentences),
        cut=data.cut,
        torch=quality(wanted.torch, types, words),
        reference=quality(wanted.reference, types, words),
        candidate=quality(counts, types, words),
        loss=f1_loss(wanted.reference, counts, SEED),
    )
