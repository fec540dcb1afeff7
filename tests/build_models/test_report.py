"""The report shows every figure that was measured, readably, for programs and for people."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from build_models.parity import ShapeParity
from build_models.plot import Outcome
from build_models.quality.figures import Bucket, Cosines, Invariance, Mixed, MixedQuality, SetQuality
from build_models.quality.gate import Gate
from build_models.report import CandidateReport, Report, quality_summary
from build_models.trials import Trial
from worker.bundle import Manifest, Pooling

COSINES = Cosines(0.991, 0.981, 0.971)
GOOD = SetQuality(
    name="good",
    documents=1000,
    queries=300,
    reference={"nDCG@10": 0.5, "R@10": 0.6, "R@100": 0.7},
    candidate={"nDCG@10": 0.499, "R@10": 0.61, "R@100": 0.7},
    retention=0.998,
    bound=0.9876,
    overlap=0.93,
    mixed=tuple(MixedQuality(half, 0.4985, 0.997, 0.94) for half in Mixed),
    document_cosines=COSINES,
    query_cosines=COSINES,
    buckets=(
        Bucket(1, 8, 40, 0.9955, 0.91, Cosines(0.99, 0.98, 0.96), 0, None),
        Bucket(9, 32, 9, 0.5, 0.91, COSINES, 0, None),
        Bucket(33, 128, 0, None, None, None, 1000, COSINES),
        Bucket(513, None, 260, None, 0.92, COSINES, 0, None),
    ),
)
BAD = replace(GOOD, name="bad", retention=0.95, bound=0.93, overlap=0.8)


def _candidate(recipe: str, *qualities: SetQuality, **other: Any) -> CandidateReport:
    manifest = Manifest(
        name="model",
        fingerprint="f",
        dim=8,
        max_tokens=16,
        pooling=Pooling.MEAN,
        normalize=True,
        recipe={"name": recipe, "weight_bits": 7},
        files={},
    )
    settings: dict[str, Any] = {
        "manifest": manifest,
        "model_bytes": 25_000_000,
        "operators": {"MatMul": 3},
        "group_cosine": 0.9876543,
        "invariance": Invariance(40, 0, 1.0),
        "milliseconds": {32: 5.0, 240: 40.0},
        "reference_milliseconds": {32: 10.0, 240: 80.0},
        "qualities": qualities,
        "refusal": None,
    }
    return CandidateReport(**settings | other)


def _report(*candidates: CandidateReport) -> Report:
    return Report(
        reference_bytes=100_000_000,
        parity=(ShapeParity(shape=(1, 3), padded=False, difference=1e-7, scale=1.0),),
        gate=Gate(min_overlap=0.9),
        candidates=candidates,
        trials=tuple(
            Trial(
                recipe=str(candidate.manifest.recipe["name"]),
                milliseconds=20.0 + number,
                relative=0.6,
                model_bytes=25_000_000,
                overlap=0.95,
                cosine=0.99876,
                outcome=Outcome.REFUSED if candidate.refusal else Outcome.CHOSEN,
                reason=candidate.refusal or "the fastest that met the gate",
            )
            for number, candidate in enumerate(candidates)
        ),
    )


@pytest.fixture
def report() -> Report:
    """Two candidates on two sets, the first refused and not even invariant."""
    refused = _candidate("first", GOOD, BAD, refusal="too bad", invariance=Invariance(40, 2, 0.9))
    return _report(refused, _candidate("second", GOOD, replace(GOOD, name="other")))


def _cells(text: str) -> list[list[str]]:
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"
    ]


def test_tables_are_whole(report: Report) -> None:
    """Every table has one width, so that each figure stands under its name."""
    width = None
    for line in report.to_markdown().splitlines():
        if not line.startswith("|"):
            width = None
            continue
        width = width or line.count("|")
        assert line.count("|") == width, line


def test_all_candidates_first(report: Report) -> None:
    """After what was timed, a table sets the candidates beside each other, by the worst of their sets."""
    cells = _cells(report.to_markdown())
    trial, (header, _, first, second) = cells[2], cells[4:8]
    assert trial[:4] == ["first", "20.00", "0.60", "25.0"]
    assert trial[4:] == ["0.9500", "0.99876", "refused by the gate: too bad"]
    assert cells[3][-1] == "chosen: the fastest that met the gate"
    assert dict(zip(header, first, strict=True)) == {
        "recipe": "first",
        "gate": "refused",
        "nDCG@10 kept": "0.9500",
        "lower 95 % bound": "0.9300",
        "overlap@10": "0.8000",
        "MB": "25.0",
        "ms for 240 tokens": "40.00",
    }
    assert second[:4] == ["second", "passed", "0.9980", "0.9876"]


@pytest.mark.parametrize(
    "row",
    [
        ["size, MB", "100.0", "25.0", "0.2500"],
        ["one text of 32 tokens, ms", "10.00", "5.00", "0.5000"],
        ["good R@10", "0.6000", "0.6100", "1.0167"],
        ["good", "1000", "300", "0.9980", "0.9876", "0.9300"] + ["0.99100 / 0.98100 / 0.97100"] * 2,
        ["wanted of each", "", "", "≥ 0.99", "≥ 0.98", "≥ 0.9", "≥ 0.95", ""],
        ["good", "FP32's documents, its queries", "0.4985", "0.9970", "0.9400"],
        ["good", "its documents, FP32's queries", "0.4985", "0.9970", "0.9400"],
        ["good", "≤ 8", "40", "0.9955", "0.9100", "0.99000 / 0.96000", "0", "–"],
        ["good", "9–32", "9", "–", "0.9100", "0.99100 / 0.97100", "0", "–"],
        ["good", "33–128", "0", "–", "–", "–", "1000", "0.99100 / 0.97100"],
        ["good", "513 and more", "260", "–", "0.9200", "0.99100 / 0.97100", "0", "–"],
    ],
)
def test_figures_for_people(row: list[str], report: Report) -> None:
    """Sets, mixed searches and lengths are all there, with what the gate asks beside them."""
    assert row in _cells(report.to_markdown())


def test_invariance_in_words(report: Report) -> None:
    """One line says of each candidate whether its vectors depend on anything but the text."""
    text = report.to_markdown()
    assert "processes: 2 got another vector, least cosine 0.900000." in text
    assert "processes: the same bytes. Beside others of its length in one run: least cosine 0.987654;" in text


def test_report_for_programs(report: Report, tmp_path: Path) -> None:
    """The JSON holds every figure, and none that strict readers refuse."""
    report.write(tmp_path)

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    found = json.loads((tmp_path / "report.json").read_text(), parse_constant=refuse)
    assert found["gate"] == {
        "min_retention": 0.99,
        "min_bound": 0.98,
        "min_cosine": 0.95,
        "min_overlap": 0.9,
    }
    first, second = found["candidates"]
    assert first["invariance"] == {"texts": 40, "changed": 2, "cosine": 0.9}
    assert second["qualities"][0]["mixed"][0]["half"] == "fp32-documents"
    assert second["qualities"][0]["buckets"][3]["last"] is None
    assert (tmp_path / "report.md").read_text() == report.to_markdown()


def test_manifest_summary() -> None:
    """The manifest says the worst of all sets, and each set's figures under its name."""
    found = quality_summary([GOOD, BAD])
    assert (found["retention"], found["bound"], found["overlap@10"]) == (0.95, 0.93, 0.8)
    assert (found["good/retention"], found["bad/bound"]) == (0.998, 0.93)
    assert found["good/fp32-queries/retention"] == 0.997
    assert (found["good/R@10"], found["good/fp32/R@10"]) == (0.61, 0.6)
