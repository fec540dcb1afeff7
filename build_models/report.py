"""The report of a build: every figure as JSON, and the same as Markdown for people."""

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from build_models.parity import ShapeParity
from build_models.quality.figures import GATE_MEASURE, Cosines, SetQuality
from build_models.quality.gate import Gate
from worker.bundle import REPORT_JSON, REPORT_MARKDOWN, Manifest

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
        milliseconds: Tokens of a text to median milliseconds on one core.
        reference_milliseconds: Of the FP32 graph, timed in turns with the candidate.
        qualities: One for each evaluation set.
        refusal: Why it may not be served; None if it may.
    """

    manifest: Manifest
    model_bytes: int
    operators: Mapping[str, int]
    group_cosine: float
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
    """

    reference_bytes: int
    parity: tuple[ShapeParity, ...]
    gate: Gate
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
        last = self.candidates[-1]
        parts = [f"# {last.manifest.name}", *(self._section(candidate) for candidate in self.candidates)]
        parts += ["## Export beside torch", *_parity_lines(self.parity), "", "## Machine", machine(), ""]
        parts.append(", ".join(f"{name} {number}" for name, number in versions().items()))
        return "\n\n".join(part for part in parts if part) + "\n"

    def _section(self, candidate: CandidateReport) -> str:
        recipe = candidate.manifest.recipe
        lines = [f"## Recipe {recipe['name']}: " + ("refused" if candidate.refusal else "passed"), ""]
        if candidate.refusal:
            lines += [candidate.refusal, ""]
        lines += ["| | FP32 | " + str(recipe["name"]) + " | ratio |", "|---|---|---|---|"]
        lines.append(_row("size, MB", self.reference_bytes / _MB, candidate.model_bytes / _MB, 1))
        for tokens, found in candidate.milliseconds.items():
            lines.append(
                _row(f"one text of {tokens} tokens, ms", candidate.reference_milliseconds[tokens], found, 2)
            )
        for quality in candidate.qualities:
            for measure, wanted in quality.reference.items():
                lines.append(_row(f"{quality.name} {measure}", wanted, quality.candidate[measure], 4))
        lines += ["", *_agreement(candidate.qualities), ""]
        lines += [
            f"Gate on every set: {self.gate.min_retention} of FP32's {GATE_MEASURE}, its lower 95 % bound",
            f"{self.gate.min_bound}, overlap@10 {self.gate.min_overlap}, cosine {self.gate.min_cosine}.",
            f"Least cosine of a text alone and beside others of its length: {candidate.group_cosine:.6f}.",
            f"Tokens of a shared run: {candidate.manifest.max_group_tokens}.",
            "",
            "Operators: " + ", ".join(f"{name} {count}" for name, count in candidate.operators.items()) + ".",
            "",
            "Settings: " + ", ".join(f"{key} {value}" for key, value in recipe.items()) + ".",
        ]
        return "\n".join(lines)


def quality_summary(qualities: tuple[SetQuality, ...]) -> dict[str, float]:
    """Returns the gate's figures for the manifest, name to value."""
    summary = {
        "retention": min(quality.retention for quality in qualities),
        "bound": min(quality.bound for quality in qualities),
        "overlap@10": min(quality.overlap for quality in qualities),
    }
    for quality in qualities:
        summary |= {f"{quality.name}/fp32/{measure}": value for measure, value in quality.reference.items()}
        summary |= {f"{quality.name}/{measure}": value for measure, value in quality.candidate.items()}
        summary[f"{quality.name}/overlap@10"] = quality.overlap
        summary[f"{quality.name}/cosine"] = quality.document_cosines.mean
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


def _row(label: str, wanted: float, found: float, digits: int) -> str:
    ratio = found / wanted if wanted else float("nan")
    return f"| {label} | {wanted:.{digits}f} | {found:.{digits}f} | {ratio:.4f} |"


def _agreement(qualities: tuple[SetQuality, ...]) -> list[str]:
    lines = [
        "| set | documents | queries | overlap@10 | document cosine: mean / p1 / min | query cosine |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {quality.name} | {quality.documents} | {quality.queries} | {quality.overlap:.4f} "
        f"| {_cosines(quality.document_cosines)} | {_cosines(quality.query_cosines)} |"
        for quality in qualities
    ]
    return lines


def _cosines(cosines: Cosines) -> str:
    return f"{cosines.mean:.5f} / {cosines.p1:.5f} / {cosines.min:.5f}"


def _parity_lines(parity: tuple[ShapeParity, ...]) -> list[str]:
    rows = [
        f"| {texts} × {tokens}{' padded' if result.padded else ''} | {result.difference:.1e} |"
        for result in parity
        for texts, tokens in (result.shape,)
    ]
    return ["\n".join(["| texts × tokens | largest difference |", "|---|---|", *rows])]
