"""The table of taggers: torch, its export and the bundles, timed in turns, then judged by strict F1."""

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from build_models.comparison.config import CompareConfig
from build_models.comparison.queries import exact_queries
from build_models.comparison.served import AS_SERVED, NO_MODEL, Served, all_served, timed_rows
from build_models.comparison.subjects import Subject, check_fits
from build_models.comparison.table import Score, Table
from build_models.comparison.timing import Precision, Run, System
from build_models.comparison.torch_baseline import threads, use_default_attention, ways
from build_models.config import SEED
from build_models.description import describe
from build_models.errors import EvaluationError
from build_models.ner.candidates import export_tagger
from build_models.ner.data import Split, check_known, read_split, split_file
from build_models.ner.evaluate import GateSet, served_counts, torch_counts
from build_models.ner.model import TorchTagger, load_tagger
from build_models.ner.scores import Counts, f1_loss, score
from build_models.ner.tagger import Tagger
from build_models.ner.words import WordTokenizer
from worker.bundle import Bundle, Pooling, Task
from worker.cpus import read_cpus

F1 = "F1"


def tagging_table(subject: Subject, config: CompareConfig, folder: Path) -> Table:
    """Returns the table of taggers' bundles.

    Args:
        subject: What is compared.
        config: How.
        folder: For files that are needed only now.

    Raises:
        BuildError: The model fits none of the bundles, or the evaluation data is of no use.
    """
    first = subject.bundles[0]
    sets = read_sets(subject, config)
    texts = (" ".join(sentence.words) for data in sets for sentence in data.sentences)
    ids = exact_queries(texts, config.queries, config.tokens, first.tokenizer)
    rows, systems, model = all_served(subject.bundles), [], None
    if subject.model is not None:
        # The pooling is no part of a tagger.
        source = describe(subject.model, pooling=Pooling.MEAN, max_tokens=first.manifest.max_tokens)
        model = load_tagger(source.folder)
        check_fits(subject, source.name, len(model.labels), model.labels)
        if all(row.precision is not Precision.ONNX_FP32 for row in rows):
            exported = export_tagger(source, model, folder).reference
            rows = [Served(str(Precision.ONNX_FP32), Precision.ONNX_FP32, exported), *rows]
        use_default_attention(model.network)
        torch = Precision.PYTORCH_FP32
        systems = [System(str(torch), torch, source.weight_bytes, ways(model.logits), ids)]
    systems += [
        System(row.name, row.precision, row.model_bytes, {AS_SERVED: _run(row.bundle)}, ids) for row in rows
    ]
    with threads(1):
        timed = timed_rows(systems, subject.manifest.name)
    counts = [[served_counts(row.bundle, data) for data in sets] for row in rows]
    if model is not None:
        counts = [_by_torch(model, first, sets), *counts]
    scored = zip(timed, scores_of_rows(sets, counts), strict=True)
    return Table(
        title=f"{subject.manifest.name}: tagging",
        task=Task.NER,
        rows=tuple(replace(row, scores=scores) for row, scores in scored),
        notes=() if model is not None else (NO_MODEL,),
    )


def read_sets(subject: Subject, config: CompareConfig) -> list[GateSet]:
    """Returns the test splits, as small as asked for.

    Raises:
        EvaluationError: A split cannot be read, or has labels that the taggers do not know.
    """
    sets = []
    for folder in subject.eval_data:
        sentences = read_split(folder, Split.TEST)
        check_known(split_file(folder, Split.TEST), sentences, subject.manifest.labels)
        if 0 < config.eval_queries < len(sentences):
            sentences = random.Random(SEED).sample(sentences, config.eval_queries)  # noqa: S311  no secret
        sets.append(GateSet(folder.resolve().name, folder, sentences))
    return sets


def scores_of_rows(sets: Sequence[GateSet], rows: Sequence[Sequence[Counts]]) -> list[tuple[Score, ...]]:
    """Returns the scores of each row on each set; the first row is what the others are compared with.

    The bound is that of the paired bootstrap over sentences: the upper end of what F1 loses.

    Raises:
        EvaluationError: The first row finds no entity of a set.
    """
    scored: list[tuple[Score, ...]] = []
    for place, counts in enumerate(rows):
        scores = []
        for data, wanted, found in zip(sets, rows[0], counts, strict=True):
            before, after = score(wanted).f1, score(found).f1
            if before == 0:
                raise EvaluationError(
                    f"the first tagger finds no entity of {data.name}: give the set that it was trained for"
                )
            bound = 1 - f1_loss(wanted, found, SEED).high / before if place else None
            scores.append(Score(data.name, F1, after, after / before, bound))
        scored.append(tuple(scores))
    return scored


def _by_torch(model: TorchTagger, bundle: Bundle, sets: Sequence[GateSet]) -> list[Counts]:
    tokenizer = WordTokenizer(bundle.tokenizer, bundle.manifest.max_tokens)
    with threads(read_cpus().usable):
        return [
            torch_counts(model, tokenizer.encode([row.words for row in data.sentences]), data)
            for data in sets
        ]


def _run(bundle: Bundle) -> Run:
    tagger = Tagger(bundle)

    def run(ids: NDArray[np.int64]) -> None:
        for row in ids:
            tagger.logits(row)

    return run
