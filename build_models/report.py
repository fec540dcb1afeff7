"""The report of a build: every figure as JSON, and the same as Markdown for people."""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from build_models.parity import ShapeParity
from build_models.plot import Outcome, pareto
from build_models.quality.figures import GATE_MEASURE, Invariance, SetQuality
from build_models.quality.gate import Gate
from build_models.report_sections import (
    beside,
    invariance_line,
    lengths_table,
    mixed_table,
    parity_table,
    sets_table,
    table,
    trials_table,
)
from build_models.trials import Trial, points
from worker.bundle import PARETO, REPORT_JSON, REPORT_MARKDOWN, Manifest

_PACKAGES = ("embedpool", "numpy", "onnx", "onnxruntime", "tokenizers", "torch", "transformers")
_MB = 1_000_000


@dataclass(frozen=True)
class CandidateReport:
    """What was measured of one candidate.

    Attributes:
        manifest: The manifest it has, or would have had.
        model_bytes: Size of its graph with weights.
        operators: Operator to count in the graph that is served.
        group_cosine: Least cosine of a text alone and in a group of equal length.
        invariance: Whether a text run alone always gets the same vector.
        milliseconds: Tokens of a text to median milliseconds on one core.
        reference_milliseconds: Of the FP32 graph, timed in turns with the candidate.
        qualities: One for each evaluation set.
        refusal: Why it may not be served; None if it may.
    """

    manifest: Manifest
    model_bytes: int
    operators: Mapping[str, int]
    group_cosine: float
    invariance: Invariance
    milliseconds: Mapping[int, float]
    reference_milliseconds: Mapping[int, float]
    qualities: tuple[SetQuality, ...]
    refusal: str | None


@dataclass(frozen=True)
class Report:
    """What a build found.

    Attributes:
        reference_bytes: Size of the FP32 graph with weights.
        parity: The FP32 graph beside torch.
        gate: What every candidate had to keep.
        candidates: In the order they were tried; the last is the one written, if it was not refused.
        trials: Every recipe that was timed, fastest first.
    """

    reference_bytes: int
    parity: tuple[ShapeParity, ...]
    gate: Gate
    candidates: tuple[CandidateReport, ...]
    trials: tuple[Trial, ...]

    def write(self, folder: Path) -> None:
        """Writes `report.json`, `report.md` and `pareto.png` into a folder that is there.

        Raises:
            OutputError: The plot cannot be written.
        """
        text = json.dumps(self.to_json(), indent=2, ensure_ascii=False) + "\n"
        (folder / REPORT_JSON).write_text(text, encoding="utf-8")
        (folder / REPORT_MARKDOWN).write_text(self.to_markdown(), encoding="utf-8")
        self._plot(folder / PARETO)

    def to_json(self) -> dict[str, Any]:
        """Returns every figure as plain values."""
        return {**asdict(self), "machine": machine(), "versions": versions()}

    def to_markdown(self) -> str:
        """Returns the report for people, section by section."""
        parts = [
            f"# {self.candidates[-1].manifest.name}",
            f"![overlap over time]({PARETO})",
            trials_table(self.trials),
            self._overview(),
            *(self._candidate(candidate) for candidate in self.candidates),
            "## Export beside torch",
            parity_table(self.parity),
            "## Machine",
            machine(),
            ", ".join(f"{name} {number}" for name, number in versions().items()),
        ]
        return "\n\n".join(part for part in parts if part) + "\n"

    def _overview(self) -> str:
        """Returns all candidates beside each other: the worst of each one's sets, its size and its time."""
        longest = max(self.candidates[0].milliseconds)
        header = ("recipe", "gate", f"{GATE_MEASURE} kept", "lower 95 % bound", "overlap@10", "MB")
        rows = []
        for candidate in self.candidates:
            quality = quality_summary(candidate.qualities)
            rows.append(
                (
                    str(candidate.manifest.recipe["name"]),
                    "refused" if candidate.refusal else "passed",
                    *(f"{quality[name]:.4f}" for name in ("retention", "bound", "overlap@10")),
                    f"{candidate.model_bytes / _MB:.1f}",
                    f"{candidate.milliseconds[longest]:.2f}",
                )
            )
        return table((*header, f"ms for {longest} tokens"), rows)

    def _plot(self, target: Path) -> None:
        chosen = next((trial for trial in self.trials if trial.outcome is Outcome.CHOSEN), None)
        name = self.candidates[-1].manifest.name
        finding = "no recipe met the gate"
        if chosen is not None:
            finding = f"{chosen.recipe} takes {chosen.relative:.2f} of FP32's time"
        pareto(
            points(self._with_overlaps()),
            target,
            title=f"{name}: {finding}",
            quality_label="overlap@10 with FP32, worst set",
            threshold=self.gate.min_overlap or None,
            footer=machine(),
        )

    def _with_overlaps(self) -> list[Trial]:
        """Returns the trials with the whole sets' overlap where no sample was measured."""
        whole = {
            str(candidate.manifest.recipe["name"]): min(quality.overlap for quality in candidate.qualities)
            for candidate in self.candidates
        }
        return [
            replace(trial, overlap=whole.get(trial.recipe)) if trial.overlap is None else trial
            for trial in self.trials
        ]

    def _candidate(self, candidate: CandidateReport) -> str:
        recipe, name = candidate.manifest.recipe, str(candidate.manifest.recipe["name"])
        rows = [beside("size, MB", self.reference_bytes / _MB, candidate.model_bytes / _MB, 1)]
        rows += [
            beside(f"one text of {tokens} tokens, ms", candidate.reference_milliseconds[tokens], found, 2)
            for tokens, found in candidate.milliseconds.items()
        ]
        rows += [
            beside(f"{quality.name} {measure}", wanted, quality.candidate[measure], 4)
            for quality in candidate.qualities
            for measure, wanted in quality.reference.items()
        ]
        operators = ", ".join(f"{operator} {count}" for operator, count in candidate.operators.items())
        parts = [
            f"## Recipe {name}: " + ("refused" if candidate.refusal else "passed"),
            candidate.refusal or "",
            table(("", "FP32", name, "ratio"), rows),
            sets_table(candidate.qualities, self.gate),
            mixed_table(candidate.qualities),
            lengths_table(candidate.qualities),
            invariance_line(
                candidate.invariance, candidate.group_cosine, candidate.manifest.max_group_tokens
            ),
            f"Operators: {operators}.",
            "Settings: " + ", ".join(f"{key} {value}" for key, value in recipe.items()) + ".",
        ]
        return "\n\n".join(part for part in parts if part)


def quality_summary(qualities: Sequence[SetQuality]) -> dict[str, float]:
    """Returns the gate's figures for the manifest, name to value: the worst of all sets, then set by set."""
    summary = {
        "retention": min(quality.retention for quality in qualities),
        "bound": min(quality.bound for quality in qualities),
        "overlap@10": min(quality.overlap for quality in qualities),
    }
    for quality in qualities:
        name = quality.name
        summary |= {f"{name}/fp32/{measure}": value for measure, value in quality.reference.items()}
        summary |= {f"{name}/{measure}": value for measure, value in quality.candidate.items()}
        summary |= {f"{name}/{mixed.half}/retention": mixed.retention for mixed in quality.mixed}
        summary |= {
            f"{name}/retention": quality.retention,
            f"{name}/bound": quality.bound,
            f"{name}/overlap@10": quality.overlap,
            f"{name}/cosine": quality.document_cosines.mean,
        }
    return summary


def speed_summary(reference: Mapping[int, float], found: Mapping[int, float]) -> dict[str, float]:
    """Returns the timings for the manifest: milliseconds of one text on one core, name to value."""
    return {f"fp32/ms@{tokens}": value for tokens, value in reference.items()} | {
        f"ms@{tokens}": value for tokens, value in found.items()
    }


def machine() -> str:
    """Returns what a timing needs to be understood: CPU, count of usable CPUs, system."""
    model = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    except OSError:
        model = platform.machine()
    cpus = len(os.sched_getaffinity(0))
    return f"{model}, {cpus} CPUs, {platform.system()}, Python {platform.python_version()}"


def versions() -> dict[str, str]:
    """Returns package name to version of the tools that built; packages not installed are left out."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
