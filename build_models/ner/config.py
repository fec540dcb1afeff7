"""Every setting of a training run and of a tagger's build."""

from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from build_models.config import check_cpu_choice
from build_models.errors import BuildError
from build_models.recipes import Recipe
from worker.cpu_flags import Cpu

# Of strict F1, absolute: what INT8 may cost.
MAX_F1_LOSS = 0.003
# Longest window in tokens: 99 % of the sentences of news and abstracts fit whole, and attention stays cheap.
MAX_TOKENS = 256
SEED = 20  # of every draw; arbitrary
# Seconds between two checkpoints: a MiniLM's takes about one second to write.
CHECKPOINT_SECONDS = 120.0
# What a trial must show before mixed precision is worth its rounding.
MIN_AMP_SPEEDUP = 1.1

# Settings that change nothing in the weights: a run may go on with others.
_NOT_IN_THE_WEIGHTS = ("out", "resume", "force", "checkpoint_seconds", "model", "data")


class Amp(StrEnum):
    """What the user wants of mixed precision."""

    AUTO = "auto"
    OFF = "off"


@dataclass(frozen=True)
class FinetuneConfig:
    """What to train, on what, and how.

    Attributes:
        model: Folder, hub id, or the name of the packaged model.
        data: Folder with `train|validation|test.parquet` (tokens, ner_tags).
        out: Folder of the tagger; must not exist, unless `force` is set and it is a tagger.
        amp: Whether a trial decides on mixed precision, or it is off.
        epochs: Passes over the training sentences.
        batch: Windows of one step.
        learning_rate: Its peak, after a linear rise over the first tenth of the steps; it then falls to 0.
        max_tokens: Longest window in tokens, special ones included; longer sentences are cut between words.
            None for the model's own limit, or `MAX_TOKENS` where that is larger.
        seed: Of the new head, the order of batches and dropout.
        threads: CPU threads of the training; sums round differently with another number.
        checkpoint_seconds: Least time between two checkpoints, seconds; one more after every epoch.
        resume: Whether a run that was stopped goes on.
        force: Whether a tagger that is there already, or what is left of a run, is replaced.
    """

    model: str
    data: Path
    out: Path
    amp: Amp = Amp.AUTO
    epochs: int = 6
    batch: int = 16
    learning_rate: float = 1e-4
    max_tokens: int | None = None
    seed: int = SEED
    threads: int = 1
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    resume: bool = False
    force: bool = False

    def __post_init__(self) -> None:
        if min(self.epochs, self.batch, self.threads) < 1:
            raise BuildError("epochs, batch and threads count what is done: give 1 or more")
        if not 0 < self.learning_rate < 1:
            raise BuildError(f"learning-rate is {self.learning_rate}, wanted above 0 and below 1")
        if self.resume and self.force:
            raise BuildError("resume goes on with a run and force throws it away: give one of them")

    def settings(self) -> dict[str, Any]:
        """Returns every setting that decides the weights, as plain values.

        Data and model are not among them: what matters is their content, not their place.
        """
        return {key: value for key, value in asdict(self).items() if key not in _NOT_IN_THE_WEIGHTS}


@dataclass(frozen=True)
class NerBuildConfig:
    """Which tagger to build, and how good the bundle must be.

    Attributes:
        model: Folder or hub id of a Hugging Face token-classification model.
        out: Folder of the bundle; must not exist, unless `force` is set and it is a bundle.
        recipes: Tried in this order; the first that meets the gate is written.
        search: Whether the recipes are timed first and tried in the order of their time.
        eval_data: Folders with `train|validation|test.parquet`; F1 is measured on every test split.
        max_f1_loss: What the strict F1 may lose beside FP32 on every set, absolute, 0 to 1.
        max_tokens: Longest window in tokens; None keeps the model's own limit.
        cpu: CPUs that the bundle may run on; VNNI gives quantized weights their eighth bit.
        force: Whether a bundle that is there already is replaced.
    """

    model: str
    out: Path
    recipes: tuple[Recipe, ...]
    eval_data: tuple[Path, ...]
    max_f1_loss: float = MAX_F1_LOSS
    max_tokens: int | None = None
    cpu: Cpu = Cpu.ANY
    search: bool = False
    force: bool = False

    def __post_init__(self) -> None:
        check_cpu_choice(self.cpu)
        if not 0 <= self.max_f1_loss <= 1:
            raise BuildError(f"max-f1-loss is {self.max_f1_loss}, wanted an F1 from 0 to 1")
        if not self.eval_data:
            raise BuildError("a tagger is gated on labelled sentences: give --eval-data")
