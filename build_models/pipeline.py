"""The road of a build: model folder → torch → lean FP32 graph → recipes → gate → bundle."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from build_models.candidates import Candidate, make_candidate, write_tokenizer
from build_models.config import CALIBRATION_TEXTS, KNOWN_ITEM_DOCUMENTS, SEED, BuildConfig
from build_models.description import SourceModel, describe
from build_models.errors import GateError
from build_models.export import TorchModel, check_tokenizer
from build_models.graphs.calibrate import activation_ranges
from build_models.graphs.optimize import check_operators, operator_counts, optimize
from build_models.output import check_output, move_files, publish, workspace
from build_models.parity import ShapeParity, check_parity
from build_models.progress import say
from build_models.quality.encode import Vectors, encoder
from build_models.quality.evaluate import Reference, compare, make_reference
from build_models.quality.figures import SetQuality
from build_models.quality.gate import refusal
from build_models.quality.invariance import check_invariance
from build_models.quality.judgements import (
    EvalSet,
    check_size,
    known_item_set,
    read_eval_sets,
    sample,
)
from build_models.quality.speed import allow_groups, time_runs
from build_models.recipes import FP32, Recipe
from build_models.report import CandidateReport, Report, quality_summary, speed_summary, versions
from build_models.sources import resolve
from worker.bundle import REPORT_JSON, REPORT_MARKDOWN, Bundle, Manifest, file_sha256, write_manifest
from worker.cpu_flags import cpu_flags
from worker.session import Session
from worker.tokenizer import Tokenizer

# Of the weights' size: raw, lean and reference graphs, and two candidates at most, exist at one time.
_SPACE_FACTOR = 6


@dataclass(frozen=True)
class Built:
    """A finished build.

    Attributes:
        manifest: Of the bundle that was written.
        report: All that was measured.
    """

    manifest: Manifest
    report: Report


@dataclass(frozen=True)
class _Exported:
    """The FP32 model as a graph: what every recipe starts from and is compared with."""

    source: SourceModel
    reference: Candidate
    tokenizer: Path
    parity: tuple[ShapeParity, ...]
    vocabulary: int


def build(config: BuildConfig) -> Built:
    """Builds the bundle that a configuration asks for.

    Raises:
        GateError: No recipe met the gate; reports were left in `OUT.report`, nothing else.
        BuildError: The model, the evaluation data or the place of the bundle is wrong; nothing was written.
    """
    check_output(config.out, force=config.force)
    source = describe(
        resolve(config.model),
        pooling=config.pooling,
        normalize=config.normalize,
        max_tokens=config.max_tokens,
    )
    sets = _read_sets(config)
    with workspace(config.out, _SPACE_FACTOR * source.weight_bytes) as folder:
        exported = _export(source, folder)
        found = _encode(exported.reference, sets)
        references = [make_reference(data, vectors) for data, vectors in zip(sets, found, strict=True)]
        reports: list[CandidateReport] = []
        for recipe in (recipe.for_cpu(config.cpu) for recipe in config.recipes):
            candidate = _candidate(exported, recipe, folder)
            measured = _measure(config, exported, candidate, references)
            reports.append(measured)
            report = _report(config, exported, reports)
            if measured.refusal is None:
                return Built(_publish(measured.manifest, report, candidate.bundle.path, config.out), report)
            say(f"{recipe.name} does not meet the gate: {measured.refusal}")
        raise _refuse(config, report, folder / "report")


def _read_sets(config: BuildConfig) -> list[EvalSet]:
    if not config.eval_data:
        sets = [known_item_set(config.eval_documents or KNOWN_ITEM_DOCUMENTS, SEED)]
    else:
        sets = read_eval_sets(config.eval_data)
    return [check_size(sample(data, config.eval_documents, config.eval_queries, SEED)) for data in sets]


def _export(source: SourceModel, folder: Path) -> _Exported:
    kind = f"{source.architecture}, {source.pooling} pooling, {source.max_tokens} tokens"
    say(f"exporting {source.name}: {kind}")
    model = TorchModel(source)
    raw, lean, tokenizer = folder / "raw.onnx", folder / "lean.onnx", folder / "tokenizer.json"
    model.export(raw)
    check_operators(raw)
    optimize(raw, lean)
    raw.unlink()
    check_operators(lean)
    write_tokenizer(source, tokenizer)
    check_tokenizer(source, tokenizer)
    reference = make_candidate(source, FP32, lean, tokenizer, folder / "reference", model.dim)
    parity = check_parity(model, Session(reference.bundle), source.max_tokens)
    return _Exported(source, reference, tokenizer, parity, model.vocabulary)


def _candidate(exported: _Exported, recipe: Recipe, folder: Path) -> Candidate:
    reference = exported.reference.bundle
    ranges = activation_ranges(reference.model, _calibration(reference)) if recipe.calibrated else None
    candidate = make_candidate(
        exported.source,
        recipe,
        reference.model,
        exported.tokenizer,
        folder / recipe.name,
        reference.manifest.dim,
        ranges,
    )
    check_operators(candidate.bundle.model)
    return candidate


def _calibration(reference: Bundle) -> list[NDArray[np.int64]]:
    # Another sample than the gate's, long texts and short ones; a tensor's range needs no more.
    data = known_item_set(CALIBRATION_TEXTS, SEED + 1)
    texts = [*list(data.documents.values())[::2], *list(data.queries.values())[1::2]]
    tokenizer = Tokenizer(reference.tokenizer, reference.manifest.max_tokens)
    return [tokens.ids for tokens in tokenizer.encode(texts)]


def _encode(candidate: Candidate, sets: Sequence[EvalSet]) -> list[Vectors]:
    with encoder(candidate.bundle) as texts:
        return [texts.eval_set(data, candidate.recipe.name) for data in sets]


def _measure(
    config: BuildConfig,
    exported: _Exported,
    candidate: Candidate,
    references: Sequence[Reference],
) -> CandidateReport:
    sets = [reference.data for reference in references]
    short = [text for data in sets for text in data.queries.values()]
    candidate, group_cosine = allow_groups(candidate, short)
    # The FP32 recipe is the reference itself: encoding again would compare a run with itself.
    quantized = candidate.recipe.quantized
    found = _encode(candidate, sets) if quantized else [reference.vectors for reference in references]
    qualities: tuple[SetQuality, ...] = tuple(
        compare(reference, vectors) for reference, vectors in zip(references, found, strict=True)
    )
    invariance = check_invariance(candidate.bundle, references)
    milliseconds = time_runs({"fp32": exported.reference, "served": candidate}, exported.vocabulary)
    return CandidateReport(
        manifest=_fill(candidate.bundle.manifest, qualities, milliseconds),
        reference_milliseconds=milliseconds["fp32"],
        model_bytes=candidate.model_bytes,
        operators=operator_counts(candidate.bundle.model),
        group_cosine=group_cosine,
        invariance=invariance,
        milliseconds=milliseconds["served"],
        qualities=qualities,
        refusal=refusal(qualities, config.gate, invariance),
    )


def _fill(
    manifest: Manifest, qualities: tuple[SetQuality, ...], milliseconds: Mapping[str, Mapping[int, float]]
) -> Manifest:
    return replace(
        manifest,
        cpu_flags=cpu_flags(),
        quality=quality_summary(qualities),
        speed=speed_summary(milliseconds["fp32"], milliseconds["served"]),
        versions=versions(),
    )


def _report(config: BuildConfig, exported: _Exported, candidates: Sequence[CandidateReport]) -> Report:
    return Report(
        reference_bytes=exported.reference.model_bytes,
        parity=exported.parity,
        gate=config.gate,
        candidates=tuple(candidates),
    )


def _publish(manifest: Manifest, report: Report, folder: Path, out: Path) -> Manifest:
    report.write(folder)
    reports = {name: file_sha256(folder / name) for name in (REPORT_JSON, REPORT_MARKDOWN)}
    manifest = replace(manifest, files={**manifest.files, **reports})
    write_manifest(folder, manifest)
    publish(folder, out)
    return manifest


def _refuse(config: BuildConfig, report: Report, folder: Path) -> GateError:
    kept = config.out.with_name(config.out.name + ".report")
    folder.mkdir()
    report.write(folder)
    move_files(folder, kept)
    return GateError(
        f"nothing was written to {config.out}: {report.candidates[-1].refusal}; see "
        f"{kept} for all that was measured, try other --recipes, or ask for less"
    )
