"""The road of a build: model folder → torch → lean FP32 graph → recipes → gate → bundle."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from build_models.candidates import Candidate
from build_models.config import KNOWN_ITEM_DOCUMENTS, SEED, BuildConfig
from build_models.description import describe
from build_models.errors import GateError
from build_models.export import TorchModel
from build_models.exported import ExportedModel, calibration_ids, export_model
from build_models.graphs.optimize import operator_counts
from build_models.output import check_output, workspace
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
from build_models.report import CandidateReport, Report, quality_summary, speed_summary, versions
from build_models.search import RecipeSearch
from build_models.sources import resolve
from build_models.trials import conclude
from build_models.written import write_bundle, write_refused
from worker.bundle import Manifest
from worker.cpu_flags import cpu_flags

# Of the weights' size: raw, lean and reference graphs, and two candidates at most, exist at one time.
_SPACE_FACTOR = 6
# What a search keeps beside them: FP32 in another form, and some dozen graphs of a quarter to two thirds.
_SEARCH_SPACE_FACTOR = 8


@dataclass(frozen=True)
class Built:
    """A finished build.

    Attributes:
        manifest: Of the bundle that was written.
        report: All that was measured.
    """

    manifest: Manifest
    report: Report


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
    factor = _SPACE_FACTOR + (_SEARCH_SPACE_FACTOR if config.search else 0)
    with workspace(config.out, factor * source.weight_bytes) as folder:
        model = export_model(TorchModel(source), source, folder)
        model = model.calibrated(calibration_ids(model.reference.bundle, sets))
        found = _encode(model.reference, sets)
        references = [make_reference(data, vectors) for data, vectors in zip(sets, found, strict=True)]
        search = RecipeSearch(model, references, config.gate, folder, SEED)
        reports: list[CandidateReport] = []
        for candidate in _candidates(config, model, search, folder):
            measured = _measure(config, model, candidate, references)
            reports.append(measured)
            if measured.refusal is None:
                report = _report(config, model, search, reports)
                manifest = write_bundle(measured.manifest, report, candidate.bundle.path, config.out)
                return Built(manifest, report)
            say(f"{candidate.recipe.name} does not meet the gate: {measured.refusal}")
        kept = write_refused(_report(config, model, search, reports), folder, config.out)
        raise GateError(
            f"nothing was written to {config.out}: {reports[-1].refusal}; see "
            f"{kept} for all that was measured, try other --recipes, or ask for less"
        )


def _read_sets(config: BuildConfig) -> list[EvalSet]:
    if not config.eval_data:
        sets = [known_item_set(config.eval_documents or KNOWN_ITEM_DOCUMENTS, SEED)]
    else:
        sets = read_eval_sets(config.eval_data)
    return [check_size(sample(data, config.eval_documents, config.eval_queries, SEED)) for data in sets]


def _candidates(
    config: BuildConfig, model: ExportedModel, search: RecipeSearch, folder: Path
) -> Iterator[Candidate]:
    recipes = [recipe.for_cpu(config.cpu) for recipe in config.recipes]
    if config.search:
        yield from search.candidates(recipes)
    else:
        for recipe in recipes:
            yield search.timed(model.make(recipe, folder))


def _encode(candidate: Candidate, sets: Sequence[EvalSet]) -> list[Vectors]:
    with encoder(candidate.bundle) as texts:
        return [texts.eval_set(data, candidate.recipe.name) for data in sets]


def _measure(
    config: BuildConfig,
    model: ExportedModel,
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
    milliseconds = time_runs({"fp32": model.reference, "served": candidate}, model.vocabulary)
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


def _report(
    config: BuildConfig, model: ExportedModel, search: RecipeSearch, candidates: Sequence[CandidateReport]
) -> Report:
    refusals = {str(measured.manifest.recipe["name"]): measured.refusal for measured in candidates}
    return Report(
        reference_bytes=model.reference.model_bytes,
        parity=model.parity,
        gate=config.gate,
        candidates=tuple(candidates),
        trials=conclude(list(search.trials.values()), refusals),
    )
