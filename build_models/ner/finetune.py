"""The road of a training run: labelled sentences → windows → steps → the best epoch → a tagger's folder."""

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from build_models.candidates import write_tokenizer
from build_models.description import SourceModel, describe
from build_models.json_files import read_json
from build_models.ner.batches import Batch, Example, example, order, pad
from build_models.ner.config import MAX_TOKENS, FinetuneConfig
from build_models.ner.data import (
    Sentence,
    Split,
    check_known,
    entity_types,
    iob2_labels,
    read_split,
    split_file,
)
from build_models.ner.model import TorchTagger, new_tagger
from build_models.ner.predict import predict
from build_models.ner.run_folder import RunFolder, check_same
from build_models.ner.scores import Quality, count, quality
from build_models.ner.train import (
    PrecisionChoice,
    Trainer,
    choose_precision,
    prepare_device,
    read_state,
    write_state,
)
from build_models.ner.training_report import REPORT_JSON, Epoch, TrainingReport
from build_models.ner.words import Window, WordTokenizer
from build_models.output import check_output, publish, workspace
from build_models.progress import progress, say
from build_models.sources import resolve
from worker.bundle import TOKENIZER, Pooling, file_sha256

# Of the weights' size: the checkpoint with both moments of AdamW, the next one, two best epochs, the tagger.
_SPACE_FACTOR = 10
# What transformers reads beside `tokenizer.json`.
_TOKENIZER_FILES = ("special_tokens_map.json", "added_tokens.json", "vocab.txt", "vocab.json", "merges.txt")
_TOKENIZER_CONFIG = "tokenizer_config.json"


@dataclass(frozen=True)
class _Encoded:
    """A split as the model reads it."""

    sentences: Sequence[Sentence]
    windows: Sequence[Sequence[Window]]

    @property
    def words(self) -> list[int]:
        return [len(sentence.words) for sentence in self.sentences]


@dataclass
class _Progress:
    """How far a run is: what a checkpoint holds beside the trainer's state."""

    epoch: int = 0
    batch: int = 0  # of the epoch, done
    loss: float = 0.0  # summed over the epoch's batches
    seconds: float = 0.0  # of training, all attempts together
    best: int = -1  # epoch; -1 for none
    history: tuple[Epoch, ...] = ()


class _Run:
    """One attempt at a run, from its beginning or from its checkpoint."""

    def __init__(
        self,
        config: FinetuneConfig,
        folder: RunFolder,
        tagger: TorchTagger,
        splits: Mapping[Split, _Encoded],
    ) -> None:
        self._config = config
        self._folder = folder
        self._tagger = tagger
        self._validation = splits[Split.VALIDATION]
        self._examples = _examples(splits[Split.TRAIN], tagger.labels)
        self._lengths = [len(row.ids) for row in self._examples]
        self._steps = len(self._batches(0))
        self.progress = _Progress()

    def batch(self, epoch: int, number: int) -> Batch:
        """Returns one batch of an epoch."""
        return self._pad(self._batches(epoch)[number])

    def prepare(self, choice: PrecisionChoice) -> None:
        """Makes the trainer, and goes back to the checkpoint where there is one."""
        config = self._config
        steps = config.epochs * self._steps
        self._trainer = Trainer(self._tagger, steps, config.learning_rate, config.seed, choice.precision)
        if self._folder.checkpoint.exists():
            state = read_state(self._folder.checkpoint)
            self._trainer.restore(state["trainer"])
            history = tuple(Epoch(**epoch) for epoch in state["progress"].pop("history"))
            self.progress = _Progress(**state["progress"], history=history)
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
        found = _measure(self._tagger, self._validation, f"validation after epoch {now.epoch + 1}")
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


def finetune(config: FinetuneConfig) -> TrainingReport:
    """Trains a tagger and writes its folder.

    Raises:
        BuildError: The model, the data, what is left of an earlier run, or the place of the tagger is wrong;
            no tagger was written.
    """
    source = _describe(config)
    splits = {split: read_split(config.data, split) for split in Split}
    labels = iob2_labels(entity_types(splits[Split.TRAIN]))
    for split in (Split.VALIDATION, Split.TEST):
        check_known(split_file(config.data, split), splits[split], labels)
    identity = {**config.settings(), "max_tokens": source.max_tokens, **_content(source, config.data)}
    finished = _finished(config, identity)
    if finished is not None:
        return finished
    run = RunFolder(config.out)
    with ExitStack() as stack:
        # A place on the same file system, asked for before hours of work.
        place = stack.enter_context(workspace(config.out, _SPACE_FACTOR * source.weight_bytes))
        notes = stack.enter_context(run.opened(identity, resume=config.resume, force=config.force))
        report, tagger = _train(config, source, labels, splits, run, notes)
        _write(place, source, run, tagger, report, identity)
        publish(place, config.out)
        run.remove()
    return report


def _describe(config: FinetuneConfig) -> SourceModel:
    # The pooling is no part of a tagger; naming one lets models be read whose own is unknown.
    source = describe(resolve(config.model), pooling=Pooling.MEAN, max_tokens=config.max_tokens)
    if config.max_tokens is None and source.max_tokens > MAX_TOKENS:
        source = describe(resolve(config.model), pooling=Pooling.MEAN, max_tokens=MAX_TOKENS)
    return source


def _content(source: SourceModel, data: Path) -> dict[str, str]:
    """Returns what names the model's and the data's content: file name to sha256."""
    weights = sorted([*source.folder.glob("*.safetensors"), *source.folder.glob("*.bin")])
    files = [*weights, source.folder / "config.json", *(split_file(data, split) for split in Split)]
    return {f"sha256 of {file.name}": file_sha256(file) for file in files}


def _finished(config: FinetuneConfig, identity: Mapping[str, Any]) -> TrainingReport | None:
    """Returns the report of a tagger that this very run wrote before; None if there is work to do."""
    report = config.out / REPORT_JSON
    if config.resume and report.is_file():
        written = read_json(report)
        check_same(written.get("identity", {}), identity, config.out)
        RunFolder(config.out).remove()
        say(f"{config.out} is finished already")
        return TrainingReport.from_json(written)
    check_output(config.out, force=config.force, mark=REPORT_JSON, kind="tagger")
    return None


def _train(
    config: FinetuneConfig,
    source: SourceModel,
    labels: tuple[str, ...],
    sentences: Mapping[Split, Sequence[Sentence]],
    folder: RunFolder,
    notes: dict[str, Any],
) -> tuple[TrainingReport, TorchTagger]:
    device = prepare_device(config.threads)
    say(f"training {source.name} on {device}: {len(labels)} labels, {source.max_tokens} tokens a window")
    write_tokenizer(source, folder.tokenizer)
    tokenizer = WordTokenizer(folder.tokenizer, source.max_tokens)
    splits = {
        split: _Encoded(rows, tokenizer.encode([row.words for row in rows]))
        for split, rows in sentences.items()
    }
    tagger = new_tagger(source.folder, labels, config.seed)
    tagger.network.to(device)
    run = _Run(config, folder, tagger, splits)
    if "precision" in notes:
        choice = PrecisionChoice.from_json(notes["precision"])
    else:
        choice = choose_precision(tagger, config.amp, [run.batch(0, number) for number in range(4)])
        folder.note({**notes, "precision": vars(choice)})
    say(f"computing in {choice.precision}: {choice.reason}")
    run.prepare(choice)
    run.train()
    report = TrainingReport(
        name=source.name,
        data=config.data.resolve().name,
        settings=config.settings(),
        labels=labels,
        precision=choice,
        epochs=run.progress.history,
        best=run.progress.best,
        train_seconds=run.progress.seconds,
        train_sentences=len(sentences[Split.TRAIN]),
        cut_sentences={str(split): sum(len(w) > 1 for w in part.windows) for split, part in splits.items()},
        validation=_measure(tagger, splits[Split.VALIDATION], "validation of the best epoch"),
        test=_measure(tagger, splits[Split.TEST], "test"),
    )
    return report, tagger


def _examples(split: _Encoded, labels: Sequence[str]) -> list[Example]:
    places = {label: place for place, label in enumerate(labels)}
    return [
        example(window, [places[tag] for tag in sentence.tags])
        for sentence, windows in zip(split.sentences, split.windows, strict=True)
        for window in windows
    ]


def _measure(tagger: TorchTagger, split: _Encoded, label: str) -> Quality:
    types = entity_types_of(tagger.labels)
    found = predict(tagger, split.windows, split.words, label)
    return quality(count([row.tags for row in split.sentences], found, types), types, split.words)


def entity_types_of(labels: Sequence[str]) -> tuple[str, ...]:
    """Returns the types of entity that labels name, sorted."""
    return tuple(sorted({label[2:] for label in labels if label[1:2] == "-"}))


def _write(
    place: Path,
    source: SourceModel,
    run: RunFolder,
    tagger: TorchTagger,
    report: TrainingReport,
    identity: Mapping[str, Any],
) -> None:
    tagger.save(place)
    shutil.copyfile(run.tokenizer, place / TOKENIZER)
    for name in _TOKENIZER_FILES:
        if (source.folder / name).is_file():
            shutil.copyfile(source.folder / name, place / name)
    settings = read_json(source.folder / _TOKENIZER_CONFIG, missing_is_empty=True)
    settings["model_max_length"] = source.max_tokens
    (place / _TOKENIZER_CONFIG).write_text(json.dumps(settings, indent=2), encoding="utf-8")
    report.write(place, identity)
