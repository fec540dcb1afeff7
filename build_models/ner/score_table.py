"""Scores as a table of Markdown, and read back from JSON."""

from collections.abc import Mapping
from typing import Any

from build_models.ner.scores import Quality, Score


def score_lines(columns: Mapping[str, Quality]) -> list[str]:
    """Returns strict F1 as lines of a table: overall, each type, each bucket of length.

    Args:
        columns: Heading to what stands below it.
    """
    names = list(columns)
    lines = [
        "| strict F1 | " + " | ".join(names) + " | gold entities |",
        "|---" * (len(names) + 2) + "|",
    ]
    rows: dict[str, dict[str, Score]] = {}
    for name, found in columns.items():
        scores = {"**all**": found.overall, "precision": found.overall, "recall": found.overall}
        for row, score in (scores | dict(found.types) | dict(found.lengths)).items():
            rows.setdefault(row, {})[name] = score
    for row, scores in rows.items():
        cells = [_cell(row, scores[name]) if name in scores else "" for name in names]
        entities = " / ".join(dict.fromkeys(str(scores[name].entities) for name in names if name in scores))
        lines.append(f"| {row} | " + " | ".join(cells) + f" | {entities} |")
    return lines


def quality_from_json(values: Mapping[str, Any]) -> Quality:
    """Returns the quality that was written as plain values."""
    return Quality(
        overall=Score(**values["overall"]),
        types={name: Score(**score) for name, score in values["types"].items()},
        lengths={name: Score(**score) for name, score in values["lengths"].items()},
    )


def _cell(row: str, score: Score) -> str:
    value = {"precision": score.precision, "recall": score.recall}.get(row, score.f1)
    return f"{value:.4f}"
