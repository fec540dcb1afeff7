"""Systems that compute vectors, and the quality of their rankings."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from build_models.comparison.config import CompareConfig
from build_models.comparison.table import Score
from build_models.comparison.timing import Run
from build_models.config import KNOWN_ITEM_DOCUMENTS, SEED
from build_models.quality.encode import Vectors, encoder
from build_models.quality.evaluate import Reference, compare, make_reference
from build_models.quality.figures import GATE_MEASURE
from build_models.quality.judgements import EvalSet, known_item_set, read_eval_set, sample
from worker.bundle import Bundle
from worker.session import Session


def read_sets(folders: Sequence[Path], config: CompareConfig) -> list[EvalSet]:
    """Returns the evaluation sets, as small as asked for; docstrings where no folder is given.

    Raises:
        EvaluationError: A set is incomplete or judges nothing.
    """
    if folders:
        sets = [read_eval_set(folder) for folder in folders]
    else:
        sets = [known_item_set(config.eval_documents or KNOWN_ITEM_DOCUMENTS, SEED)]
    return [sample(data, config.eval_documents, config.eval_queries, SEED) for data in sets]


def served_run(bundle: Bundle) -> Run:
    """Returns how the worker runs texts of one length: alone, or together where the bundle allows it."""
    session = Session(bundle)

    def run(ids: NDArray[np.int64]) -> None:
        session.embed(list(ids))

    return run


def served_vectors(bundle: Bundle, sets: Sequence[EvalSet], label: str) -> list[Vectors]:
    """Returns a bundle's vectors of each set, computed as the worker does."""
    with encoder(bundle) as texts:
        return [texts.eval_set(data, label) for data in sets]


def scores_of_rows(sets: Sequence[EvalSet], rows: Sequence[Sequence[Vectors]]) -> list[tuple[Score, ...]]:
    """Returns the scores of each row on each set; the first row is what the others are compared with.

    Args:
        sets: What is searched.
        rows: For each row its vectors of each set.

    Raises:
        EvaluationError: The first row finds nothing in a set.
    """
    wanted = [make_reference(data, found) for data, found in zip(sets, rows[0], strict=True)]
    first = tuple(
        Score(reference.data.name, GATE_MEASURE, reference.measures[GATE_MEASURE], kept=1.0)
        for reference in wanted
    )
    return [first, *(_scores(wanted, vectors) for vectors in rows[1:])]


def _scores(wanted: Sequence[Reference], vectors: Sequence[Vectors]) -> tuple[Score, ...]:
    qualities = [compare(reference, found) for reference, found in zip(wanted, vectors, strict=True)]
    return tuple(
        Score(quality.name, GATE_MEASURE, quality.candidate[GATE_MEASURE], quality.retention, quality.bound)
        for quality in qualities
    )
