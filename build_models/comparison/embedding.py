"""The table of embedding models: torch, its export and the bundles, timed in turns, then judged."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from build_models.comparison.config import CompareConfig
from build_models.comparison.queries import exact_queries
from build_models.comparison.retrieval import read_sets, scores_of_rows, served_run, served_vectors
from build_models.comparison.served import AS_SERVED, NO_MODEL, Served, all_served, timed_rows
from build_models.comparison.subjects import Subject, check_fits
from build_models.comparison.table import Table
from build_models.comparison.timing import Precision, System
from build_models.comparison.torch_baseline import TorchBaseline, threads, ways
from build_models.description import SourceModel, describe
from build_models.exported import ExportedModel, export_model
from build_models.quality.judgements import EvalSet
from worker.bundle import Bundle, Task
from worker.tokenizer import Tokenizer


def embedding_table(subject: Subject, config: CompareConfig, folder: Path) -> Table:
    """Returns the table of embedding bundles.

    Args:
        subject: What is compared.
        config: How.
        folder: For files that are needed only now.

    Raises:
        BuildError: The model fits none of the bundles, or the evaluation data is of no use.
    """
    sets = read_sets(subject.eval_data, config)
    ids = query_ids(sets, config, subject.bundles[0])
    rows = all_served(subject.bundles)
    baseline = None
    if subject.model is not None:
        baseline = TorchBaseline(_describe(subject))
        check_fits(subject, subject.model.name, baseline.dim)
        if all(row.precision is not Precision.ONNX_FP32 for row in rows):
            rows = [fp32_row(export_model(baseline, baseline.source, folder)), *rows]
        baseline.use_default_attention()
    systems = [*([torch_system(baseline, ids)] if baseline else []), *served_systems(rows, ids)]
    with threads(1):
        timed = timed_rows(systems, subject.manifest.name)
    vectors = [served_vectors(row.bundle, sets, row.name) for row in rows]
    if baseline:
        tokenizer = Tokenizer(subject.bundles[0].tokenizer, subject.manifest.max_tokens)
        vectors = [[baseline.eval_set(data, tokenizer) for data in sets], *vectors]
    judged = scores_of_rows(sets, vectors)
    return Table(
        title=f"{subject.manifest.name}: retrieval",
        task=Task.EMBEDDING,
        rows=tuple(replace(row, scores=scores) for row, scores in zip(timed, judged, strict=True)),
        notes=() if baseline else (NO_MODEL,),
    )


def query_ids(sets: Sequence[EvalSet], config: CompareConfig, bundle: Bundle) -> NDArray[np.int64]:
    """Returns the queries that are timed, `[queries, tokens]`, cut from the texts of the sets."""
    texts = (text for data in sets for part in (data.queries, data.documents) for text in part.values())
    return exact_queries(texts, config.queries, config.tokens, bundle.tokenizer)


def fp32_row(exported: ExportedModel) -> Served:
    """Returns an exported model as a row; export before `use_default_attention`."""
    return Served(str(Precision.ONNX_FP32), Precision.ONNX_FP32, exported.reference.bundle)


def torch_system(baseline: TorchBaseline, ids: NDArray[np.int64]) -> System:
    """Returns torch as it is timed."""
    precision = Precision.PYTORCH_FP32
    return System(str(precision), precision, baseline.source.weight_bytes, ways(baseline.reference), ids)


def served_systems(rows: Sequence[Served], ids: NDArray[np.int64]) -> list[System]:
    """Returns bundles as they are timed."""
    return [
        System(row.name, row.precision, row.model_bytes, {AS_SERVED: served_run(row.bundle)}, ids)
        for row in rows
    ]


def _describe(subject: Subject) -> SourceModel:
    assert subject.model is not None  # noqa: S101  asked for by the caller
    manifest = subject.manifest
    return describe(
        subject.model,
        pooling=manifest.pooling,
        normalize=manifest.normalize,
        max_tokens=manifest.max_tokens,
    )
