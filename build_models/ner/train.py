"""Steps of training: a loss, its gradients, and AdamW, in full or mixed precision.

Guarantee: a step is a function of the trainer's state, the step's number and the batch alone. On a CPU with
a fixed number of threads, a run that was stopped and restored gives the same weights as one that was not.
"""

import copy
import io
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import torch

from build_models.errors import TrainingError
from build_models.ner.batches import NO_TAG, Batch
from build_models.ner.config import MIN_AMP_SPEEDUP, Amp
from build_models.ner.model import TorchTagger
from build_models.whole_file import write_whole

_WEIGHT_DECAY = 0.01  # of matrices, as BERT was trained
_WARM_UP = 0.1  # share of the steps in which the learning rate rises
_MAX_NORM = 1.0  # of the gradient, over all weights
TRIAL_STEPS = 4  # of each precision, in turns; the first warms up and does not count; arbitrary
# A first step that takes this many times as long is emulated by the CPU: more of them only cost time.
_HOPELESS = 3.0


class Precision(StrEnum):
    """What the multiplications of a step compute in."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"  # autocast, on CPUs
    FLOAT16 = "float16"  # autocast with a gradient scaler, on CUDA


_DTYPES = {Precision.BFLOAT16: torch.bfloat16, Precision.FLOAT16: torch.float16}


@dataclass(frozen=True)
class PrecisionChoice:
    """What a run computes in, and why.

    Attributes:
        precision: What was chosen.
        reason: Why, for people.
        device: Where it runs: `cpu` or `cuda`.
        speedup: Mixed precision's steps per second over float32's; None where it was not measured.
    """

    precision: Precision
    reason: str
    device: str
    speedup: float | None

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "PrecisionChoice":
        """Returns the choice that was written as plain values."""
        return cls(**{**values, "precision": Precision(values["precision"])})


class Trainer:
    """A tagger with what training keeps beside its weights.

    Args:
        tagger: Trained in place.
        steps: Of the whole run; the learning rate falls to 0 over them.
        learning_rate: Its peak.
        seed: Of dropout.
        precision: What the multiplications compute in.
    """

    def __init__(
        self, tagger: TorchTagger, steps: int, learning_rate: float, seed: int, precision: Precision
    ) -> None:
        self.done = 0
        self._tagger = tagger
        self._seed = seed
        self._device: str = tagger.network.device.type
        self._dtype = _DTYPES.get(precision)
        matrices = [weight for weight in tagger.network.parameters() if weight.ndim > 1]
        others = [weight for weight in tagger.network.parameters() if weight.ndim <= 1]
        groups = [
            {"params": matrices, "weight_decay": _WEIGHT_DECAY},
            {"params": others, "weight_decay": 0.0},
        ]
        # Fused: one pass over memory in place of several, 20 ms in place of 150 for a MiniLM on one core.
        self._optimizer = torch.optim.AdamW(groups, lr=learning_rate, fused=True)
        rise = max(1, round(_WARM_UP * steps))
        self._schedule = torch.optim.lr_scheduler.LambdaLR(
            self._optimizer,
            lambda step: min((step + 1) / rise, max(0.0, (steps - step) / max(1, steps - rise))),
        )
        self._scaler = torch.amp.GradScaler(self._device, enabled=precision is Precision.FLOAT16)

    def step(self, batch: Batch) -> float:
        """Learns from a batch; returns its mean loss per word.

        Raises:
            TrainingError: The loss is no number any more.
        """
        network = self._tagger.network.train()
        # Of the step's own number, so that nothing of the generator's past has to be kept.
        torch.manual_seed(self._seed * 1_000_003 + self.done)
        ids, mask, targets = (
            torch.from_numpy(part).to(self._device) for part in (batch.ids, batch.mask, batch.targets)
        )
        with torch.autocast(self._device, dtype=self._dtype, enabled=self._dtype is not None):
            logits = network(input_ids=ids, attention_mask=mask).logits
        loss = torch.nn.functional.cross_entropy(
            logits.float().flatten(0, 1), targets.flatten(), ignore_index=NO_TAG
        )
        if not torch.isfinite(loss):
            raise TrainingError(
                f"the loss is {loss.item()} at step {self.done + 1}; give a lower --learning-rate"
            )
        self._learn(loss)
        self.done += 1
        return float(loss.item())

    def _learn(self, loss: torch.Tensor) -> None:
        self._optimizer.zero_grad()
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]  # of torch
        self._scaler.unscale_(self._optimizer)
        torch.nn.utils.clip_grad_norm_(self._tagger.network.parameters(), _MAX_NORM)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._schedule.step()

    def state(self) -> dict[str, Any]:
        """Returns all that the next step depends on."""
        return {
            "done": self.done,
            "network": self._tagger.network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "schedule": {"last_epoch": self._schedule.last_epoch},
            "scaler": self._scaler.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Goes back to what `state` returned."""
        self.done = int(state["done"])
        self._tagger.network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.last_epoch = state["schedule"]["last_epoch"]
        self._scaler.load_state_dict(state["scaler"])


def choose_precision(tagger: TorchTagger, amp: Amp, batches: Sequence[Batch]) -> PrecisionChoice:
    """Decides on mixed precision by steps of a copy of the tagger, in both precisions in turns.

    On CUDA float16 is taken unless it is turned off, and the trial tells its speed-up; on a CPU bfloat16 is
    taken only where the trial shows one, because without hardware for it the CPU emulates it slowly.
    """
    device: str = tagger.network.device.type
    mixed = Precision.FLOAT16 if device == "cuda" else Precision.BFLOAT16
    if amp is Amp.OFF:
        return PrecisionChoice(Precision.FLOAT32, "mixed precision is turned off", device, None)
    seconds = _trial(tagger, batches, mixed)
    speedup = seconds[Precision.FLOAT32] / seconds[mixed]
    taken = device == "cuda" or speedup >= MIN_AMP_SPEEDUP
    measured = (
        f"a step takes {1000 * seconds[mixed]:.0f} ms in {mixed}, "
        f"{1000 * seconds[Precision.FLOAT32]:.0f} ms in {Precision.FLOAT32}: {speedup:.2f} times as fast"
    )
    if not taken:
        measured += f", wanted {MIN_AMP_SPEEDUP}"
    if device != "cuda":
        measured += "; no GPU is at hand to measure float16 on"
    return PrecisionChoice(mixed if taken else Precision.FLOAT32, measured, device, speedup)


def _trial(tagger: TorchTagger, batches: Sequence[Batch], mixed: Precision) -> dict[Precision, float]:
    trainers = {}
    for precision in (Precision.FLOAT32, mixed):
        copied = TorchTagger(copy.deepcopy(tagger.network), tagger.labels)
        trainers[precision] = Trainer(copied, TRIAL_STEPS, 1e-6, 0, precision)
    seconds: dict[Precision, list[float]] = {precision: [] for precision in trainers}
    for step in range(TRIAL_STEPS):
        for precision, trainer in trainers.items():
            started = time.perf_counter()
            trainer.step(batches[step % len(batches)])  # the loss that it returns waits for the device
            seconds[precision].append(time.perf_counter() - started)
        if mixed is Precision.BFLOAT16 and seconds[mixed][0] > _HOPELESS * seconds[Precision.FLOAT32][0]:
            break
    return {precision: statistics.median(values[1:] or values) for precision, values in seconds.items()}


def prepare_device(threads: int) -> str:
    """Sets the threads of torch, and returns where to train: on CUDA where it is there, else on the CPU."""
    torch.set_num_threads(threads)
    return "cuda" if torch.cuda.is_available() else "cpu"


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Writes tensors and plain values, durably and whole or not at all.

    Raises:
        OutputError: The disk is full or cannot be written.
    """
    stream = io.BytesIO()  # torch tells a full disk by an error that does not name it
    torch.save(state, stream)
    write_whole(path, stream.getvalue())


def read_state(path: Path) -> dict[str, Any]:
    """Returns what `write_state` wrote.

    Raises:
        TrainingError: The file is damaged.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever its readers raise
        raise TrainingError(
            f"cannot read the checkpoint {path} ({type(error).__name__}); give --force to start again"
        ) from error
    return state
