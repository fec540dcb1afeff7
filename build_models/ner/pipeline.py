"""The road of a tagger's build: its folder → torch → lean FP32 graph → recipes → gate on F1 → bundle."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from build_models.description import describe
from build_models.errors import GateError
from build_models.graphs.optimize import operator_counts
from build_models.ner.candidates import Exported, export_tagger, make_candidate
from build_models.ner.config import NerBuildConfig
from build_models.ner.data import Split, check_known, read_split, split_file
from build_models.ner.evaluate import GateSet, Wanted, compare, find_reference
from build_models.ner.model import load_tagger
from build_models.ner.report import CandidateReport, Report, quality_summary, refusal
from build_models.ner.tagger import Tagger
from build_models.output import check_output, workspace
from build_models.progress import say
from build_models.quality.speed import time_calls
from build_models.report import speed_summary, versions
from build_models.sources import resolve
from build_models.written import write_bundle, write_refused
from worker.bundle import Bundle, Manifest, Pooling
from worker.cpu_flags import cpu_flags

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


def build(config: NerBuildConfig) -> Built:
    """Builds the bundle that a configuration asks for.

    Raises:
        GateError: No recipe met the gate; reports were left in `OUT.report`, nothing else.
        BuildError: The model, the evaluation data or the place of the bundle is wrong; nothing was written.
    """
    check_output(config.out, force=config.force)
    # The pooling is no part of a tagger.
    source = describe(resolve(config.model), pooling=Pooling.MEAN, max_tokens=config.max_tokens)
    sets = [
        GateSet(folder.resolve().name, folder, read_split(folder, Split.TEST)) for folder in config.eval_data
    ]
    model = load_tagger(source.folder)
    for data in sets:
        check_known(split_file(data.folder, Split.TEST), data.sentences, model.labels)
    with workspace(config.out, _SPACE_FACTOR * source.weight_bytes) as folder:
        exported = export_tagger(source, model, folder)
        wanted = [find_reference(model, exported.reference, data) for data in sets]
        reports: list[CandidateReport] = []
        for candidate in _candidates(config, exported, folder):
            reports.append(_measure(config, exported, candidate, wanted))
            report = Report(
                reference_bytes=exported.reference.model.stat().st_size,
                parity=exported.parity,
                max_f1_loss=config.max_f1_loss,
                candidates=tuple(reports),
            )
            if reports[-1].refusal is None:
                manifest = write_bundle(reports[-1].manifest, report, candidate.path, config.out)
                return Built(manifest, report)
            say(f"{candidate.manifest.recipe['name']} does not meet the gate: {reports[-1].refusal}")
        kept = write_refused(report, folder, config.out)
        raise GateError(
            f"nothing was written to {config.out}: {reports[-1].refusal}; see {kept}, "
            "try other --recipes, or accept more with --max-f1-loss"
        )


def _candidates(config: NerBuildConfig, exported: Exported, folder: Path) -> Iterator[Bundle]:
    """Yields candidates in the order of the recipes, or in that of their time if a search is asked for."""
    recipes = [recipe.for_cpu(config.cpu) for recipe in config.recipes]
    made = (make_candidate(config, exported, recipe, folder) for recipe in recipes)
    if not config.search:
        yield from made
        return
    timed = []
    for candidate in made:
        calls = {"fp32": Tagger(exported.reference).logits, "served": Tagger(candidate).logits}
        found = time_calls(calls, exported.source.max_tokens, exported.vocabulary)
        relative = sum(found["served"].values()) / sum(found["fp32"].values())
        say(f"{candidate.manifest.recipe['name']}: {relative:.2f} of FP32's time")
        timed.append((relative, candidate))
    yield from (candidate for _, candidate in sorted(timed, key=lambda entry: entry[0]))


def _measure(
    config: NerBuildConfig, exported: Exported, candidate: Bundle, wanted: Sequence[Wanted]
) -> CandidateReport:
    sets = tuple(compare(candidate, found) for found in wanted)
    calls = {"fp32": Tagger(exported.reference).logits, "served": Tagger(candidate).logits}
    milliseconds = time_calls(calls, exported.source.max_tokens, exported.vocabulary)
    return CandidateReport(
        manifest=replace(
            candidate.manifest,
            cpu_flags=cpu_flags(),
            quality=quality_summary(sets),
            speed=speed_summary(milliseconds["fp32"], milliseconds["served"]),
            versions=versions(),
        ),
        model_bytes=candidate.model.stat().st_size,
        operators=operator_counts(candidate.model),
        milliseconds=milliseconds["served"],
        reference_milliseconds=milliseconds["fp32"],
        sets=sets,
        refusal=refusal(sets, config.max_f1_loss),
    )
