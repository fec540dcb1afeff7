"""One run of training: epochs of batches, checkpoints, and the best epoch by validation F1."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from build_models.ner.batches import Batch, Example, example, order, pad
from build_models.ner.config import FinetuneConfig
from build_models.ner.data import Sentence, Split, entity_types_of
from build_models.ner.model import TorchTagger
from build_models.ner.predict import predict
from build_models.ner.run_folder import RunFolder
from build_models.ner.scores import Quality, count, quality
from build_models.ner.train import PrecisionChoice, Trainer, read_state, write_state
from build_models.ner.training_report import Epoch
from build_models.ner.words import Window
from build_models.progress import progress, say


@dataclass(frozen=True)
class Encoded:
    """A split as the model reads it.

    Attributes:
        sentences: As they were labelled.
        windows: Of each sentence.
    """

    sentences: Sequence[Sentence]
    windows: Sequence[Sequence[Window]]

    @property
    def words(self) -> list[int]:
        """How many words each sentence has."""
        return [len(sentence.words) for sentence in self.sentences]


@dataclass
class Progress:
    """How far a run is: what a checkpoint holds beside the trainer's state.

    Attributes:
        epoch: Epochs done.
        batch: Batches done of the epoch at hand.
        loss: Summed over these.
        seconds: Of the steps, all attempts together.
        best: The best epoch; -1 for none.
        history: Of the epochs done.
    """

    epoch: int = 0
    batch: int = 0
    loss: float = 0.0
    seconds: float = 0.0
    best: int = -1
    history: tuple[Epoch, ...] = ()


class Run:
    """One attempt at a run, from its beginning or from its checkpoint.

    Attributes:
        progress: How far it is.
    """

    def __init__(
        self,
        config: FinetuneConfig,
        folder: RunFolder,
        tagger: TorchTagger,
        splits: Mapping[Split, Encoded],
    ) -> None:
        self._config = config
        self._folder = folder
        self._tagger = tagger
        self._validation = splits[Split.VALIDATION]
        self._examples = _examples(splits[Split.TRAIN], tagger.labels)
        self._lengths = [len(row.ids) for row in self._examples]
        self._steps = len(self._batches(0))
        self.progress = Progress()

    def first_batches(self, count: int) -> list[Batch]:
        """Returns the first batches of the first epoch, `count` at most."""
        return [self._pad(indexes) for indexes in self._batches(0)[:count]]

    def prepare(self, choice: PrecisionChoice) -> None:
        """Makes the trainer, and goes back to the checkpoint where there is one."""
        config = self._config
        steps = config.epochs * self._steps
        self._trainer = Trainer(self._tagger, steps, config.learning_rate, config.seed, choice.precision)
        if self._folder.checkpoint.exists():
            state = read_state(self._folder.checkpoint)
            self._trainer.restore(state["trainer"])
            history = tuple(Epoch(**epoch) for epoch in state["progress"].pop("history"))
            self.progress = Progress(**state["progress"], history=history)
            say(f"going on after epoch {self.progress.epoch}, batch {self.progress.batch} of {self._steps}")

    def train(self) -> None:
        """Trains all epochs that are left, and loads the weights of the best one.

        Raises:
            TrainingError: The loss is no number any more.
        """
        while self.progress.epoch < self._config.epochs:
            self._epoch()
            self._judge()
        self._tagger.network.load_state_dict(read_state(self._folder.best(self.progress.best)))

    def _epoch(self) -> None:
        now = self.progress
        saved = time.monotonic()
        batches = self._batches(now.epoch)
        label = f"epoch {now.epoch + 1} of {self._config.epochs}"
        with progress(label, sum(map(len, batches[now.batch :])), "windows") as advance:
            for indexes in batches[now.batch :]:
                started = time.monotonic()
                now.loss += self._trainer.step(self._pad(indexes))
                now.batch += 1
                now.seconds += time.monotonic() - started
                advance(len(indexes))
                if time.monotonic() - saved >= self._config.checkpoint_seconds:
                    self._save()
                    saved = time.monotonic()

    def _judge(self) -> None:
        """Scores the epoch on the validation split, and keeps its weights if they are the best so far."""
        now = self.progress
        found = measure(self._tagger, self._validation, f"validation after epoch {now.epoch + 1}")
        f1 = found.overall.f1
        now.history += (Epoch(loss=now.loss / now.batch, f1=f1),)
        say(f"epoch {now.epoch + 1}: loss {now.history[-1].loss:.4f}, validation strict F1 {f1:.4f}")
        if now.best < 0 or f1 > now.history[now.best].f1:
            now.best = now.epoch
            write_state(self._folder.best(now.best), self._tagger.network.state_dict())
        now.epoch, now.batch, now.loss = now.epoch + 1, 0, 0.0
        self._save()
        self._folder.keep_best(now.best)

    def _save(self) -> None:
        now = {**vars(self.progress), "history": [vars(epoch) for epoch in self.progress.history]}
        write_state(self._folder.checkpoint, {"trainer": self._trainer.state(), "progress": now})

    def _batches(self, epoch: int) -> list[Any]:
        return order(self._lengths, self._config.batch, self._config.seed, epoch)

    def _pad(self, indexes: Sequence[int]) -> Batch:
        return pad([self._examples[index] for index in indexes], self._tagger.padding_id)


def _examples(split: Encoded, labels: Sequence[str]) -> list[Example]:
    places = {label: place for place, label in enumerate(labels)}
    return [
        example(window, [places[tag] for tag in sentence.tags])
        for sentence, windows in zip(split.sentences, split.windows, strict=True)
        for window in windows
    ]


def measure(tagger: TorchTagger, split: Encoded, label: str) -> Quality:
    """Returns what a tagger reaches on a split; `label` is what the progress is called."""
    types = entity_types_of(tagger.labels)
    found = predict(tagger, split.windows, split.words, label)
    return quality(count([row.tags for row in split.sentences], found, types), types, split.words)
