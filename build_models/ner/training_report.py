"""The report of a training run: every figure as JSON, and the same as Markdown for people."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from build_models.ner.score_table import quality_from_json, score_lines
from build_models.ner.scores import Quality
from build_models.ner.train import PrecisionChoice
from build_models.report import machine, versions

REPORT_JSON = "training.json"
REPORT_MARKDOWN = "training.md"


@dataclass(frozen=True)
class Epoch:
    """What an epoch came to.

    Attributes:
        loss: Mean over its batches.
        f1: Strict, on the validation split.
    """

    loss: float
    f1: float


@dataclass(frozen=True)
class TrainingReport:
    """What a run did and reached.

    Attributes:
        name: The model that it began with.
        data: Name of the set.
        settings: What decided the weights.
        labels: Of the tagger.
        precision: What it computed in, and why.
        epochs: In order.
        best: Which epoch was kept, from 0.
        train_seconds: Of the steps, all attempts together.
        train_sentences: Sentences of an epoch.
        cut_sentences: Split to the sentences that were cut into windows.
        validation: Of the epoch that was kept.
        test: Of the same.
    """

    name: str
    data: str
    settings: Mapping[str, Any]
    labels: tuple[str, ...]
    precision: PrecisionChoice
    epochs: tuple[Epoch, ...]
    best: int
    train_seconds: float
    train_sentences: int
    cut_sentences: Mapping[str, int]
    validation: Quality
    test: Quality

    def write(self, folder: Path, identity: Mapping[str, Any]) -> None:
        """Writes `training.json`, with what names the run, and `training.md`."""
        values = {**asdict(self), "identity": identity, "machine": machine(), "versions": versions()}
        text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
        (folder / REPORT_JSON).write_text(text, encoding="utf-8")
        (folder / REPORT_MARKDOWN).write_text(self.to_markdown(), encoding="utf-8")

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "TrainingReport":
        """Returns the report that `write` wrote."""
        known = {name: values[name] for name in cls.__dataclass_fields__}
        return cls(
            **known
            | {
                "labels": tuple(known["labels"]),
                "precision": PrecisionChoice.from_json(known["precision"]),
                "epochs": tuple(Epoch(**epoch) for epoch in known["epochs"]),
                "validation": quality_from_json(known["validation"]),
                "test": quality_from_json(known["test"]),
            }
        )

    def to_markdown(self) -> str:
        """Returns the report for people."""
        rate = self.train_sentences * len(self.epochs) / max(self.train_seconds, 1e-9)
        lines = [f"# {self.name}, trained on {self.data}", ""]
        lines += score_lines({"validation": self.validation, "test": self.test})
        lines += ["", "| epoch | loss | validation F1 |", "|---|---|---|"]
        lines += [
            f"| {number + 1}{' (kept)' if number == self.best else ''} | {epoch.loss:.4f} | {epoch.f1:.4f} |"
            for number, epoch in enumerate(self.epochs)
        ]
        cut = ", ".join(f"{name} {number}" for name, number in self.cut_sentences.items())
        lines += [
            "",
            f"Computed in {self.precision.precision}: {self.precision.reason}.",
            f"{self.train_seconds:.0f} s of training on {self.precision.device}, {rate:.1f} sentences/s.",
            f"Sentences cut into windows: {cut}.",
            "",
            "Settings: " + ", ".join(f"{key} {value}" for key, value in self.settings.items()) + ".",
            "",
            machine() + "; " + ", ".join(f"{name} {number}" for name, number in versions().items()),
        ]
        return "\n".join(lines) + "\n"
