"""The report of a tagger's build: every figure as JSON, and the same as Markdown for people."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from build_models.ner.score_table import score_lines
from build_models.ner.scores import Loss, Quality
from build_models.parity import ShapeParity
from build_models.report import machine, versions
from worker.bundle import REPORT_JSON, REPORT_MARKDOWN, Manifest

_MB = 1_000_000


@dataclass(frozen=True)
class SetQuality:
    """What taggers reach on the test split of one set.

    Attributes:
        name: Of the set.
        sentences: How many were tagged.
        cut: How many of them were cut into windows.
        torch: The model in torch, in padded batches.
        reference: The FP32 graph, one sentence at a time.
        candidate: The served graph, one sentence at a time.
        loss: The candidate's beside the reference.
    """

    name: str
    sentences: int
    cut: int
    torch: Quality
    reference: Quality
    candidate: Quality
    loss: Loss


@dataclass(frozen=True)
class CandidateReport:
    """What was measured of one candidate.

    Attributes:
        manifest: The manifest it has, or would have had.
        model_bytes: Size of its graph with weights.
        operators: Operator to count in the graph that is served.
        milliseconds: Tokens of a sentence to median milliseconds on one core.
        reference_milliseconds: Of the FP32 graph, timed in turns with the candidate.
        sets: One for each evaluation set.
        refusal: Why it may not be served; None if it may.
    """

    manifest: Manifest
    model_bytes: int
    operators: Mapping[str, int]
    milliseconds: Mapping[int, float]
    reference_milliseconds: Mapping[int, float]
    sets: tuple[SetQuality, ...]
    refusal: str | None


@dataclass(frozen=True)
class Report:
    """What a build found.

    Attributes:
        reference_bytes: Size of the FP32 graph with weights.
        parity: The FP32 graph beside torch.
        max_f1_loss: The gate.
        candidates: In the order they were tried; the last is the one written, if it was not refused.
    """

    reference_bytes: int
    parity: tuple[ShapeParity, ...]
    max_f1_loss: float
    candidates: tuple[CandidateReport, ...]

    def write(self, folder: Path) -> None:
        """Writes `report.json` and `report.md` into a folder that is there."""
        text = json.dumps(self.to_json(), indent=2, ensure_ascii=False) + "\n"
        (folder / REPORT_JSON).write_text(text, encoding="utf-8")
        (folder / REPORT_MARKDOWN).write_text(self.to_markdown(), encoding="utf-8")

    def to_json(self) -> dict[str, Any]:
        """Returns every figure as plain values."""
        return {**asdict(self), "machine": machine(), "versions": versions()}

    def to_markdown(self) -> str:
        """Returns the report for people."""
        lines = [f"# {self.candidates[-1].manifest.name}", ""]
        for candidate in self.candidates:
            lines += [*self._section(candidate), ""]
        largest = max(result.difference for result in self.parity)
        lines += [
            f"Largest difference of a logit between torch and the FP32 graph: {largest:.1e}.",
            "",
            machine() + "; " + ", ".join(f"{name} {number}" for name, number in versions().items()),
        ]
        return "\n".join(lines) + "\n"

    def _section(self, candidate: CandidateReport) -> list[str]:
        recipe = candidate.manifest.recipe
        name = str(recipe["name"])
        lines = [f"## Recipe {name}: " + ("refused" if candidate.refusal else "passed"), ""]
        if candidate.refusal:
            lines += [candidate.refusal, ""]
        lines += [f"| | FP32 | {name} | ratio |", "|---|---|---|---|"]
        lines.append(_row("size, MB", self.reference_bytes / _MB, candidate.model_bytes / _MB))
        for tokens, found in candidate.milliseconds.items():
            wanted = candidate.reference_milliseconds[tokens]
            lines.append(_row(f"one sentence of {tokens} tokens, ms", wanted, found))
        for found_set in candidate.sets:
            lines += ["", *self._set(found_set, name)]
        lines += [
            "",
            "Operators: " + ", ".join(f"{key} {count}" for key, count in candidate.operators.items()) + ".",
            "",
            "Settings: " + ", ".join(f"{key} {value}" for key, value in recipe.items()) + ".",
        ]
        return lines

    def _set(self, found: SetQuality, recipe: str) -> list[str]:
        lost, low, high = (
            f"{100 * value:.2f}" for value in (found.loss.value, found.loss.low, found.loss.high)
        )
        return [
            f"### {found.name}: {found.sentences} sentences, {found.cut} of them cut",
            "",
            *score_lines({"torch FP32": found.torch, "FP32": found.reference, recipe: found.candidate}),
            "",
            f"F1 lost beside FP32: {lost} points; {100 * self.max_f1_loss:.2f} allowed.",
            f"95 % interval by a paired bootstrap over sentences: {low} to {high}.",
        ]


def refusal(sets: tuple[SetQuality, ...], max_f1_loss: float) -> str | None:
    """Returns why a candidate may not be served; None if it may. The worst set decides."""
    worst = max(sets, key=lambda found: found.loss.value)
    if worst.loss.value <= max_f1_loss:
        return None
    return (
        f"strict F1 on {worst.name} falls from {worst.reference.overall.f1:.4f} to "
        f"{worst.candidate.overall.f1:.4f}: {100 * worst.loss.value:.2f} points lost, "
        f"{100 * max_f1_loss:.2f} allowed"
    )


def quality_summary(sets: tuple[SetQuality, ...]) -> dict[str, float]:
    """Returns the gate's figures for the manifest, name to value."""
    summary = {"f1_loss": max(found.loss.value for found in sets)}
    for found in sets:
        summary[f"{found.name}/fp32/strict F1"] = found.reference.overall.f1
        summary[f"{found.name}/strict F1"] = found.candidate.overall.f1
        summary[f"{found.name}/f1_loss/high"] = found.loss.high
    return summary


def _row(label: str, wanted: float, found: float) -> str:
    return f"| {label} | {wanted:.2f} | {found:.2f} | {found / wanted:.4f} |"
