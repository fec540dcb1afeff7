"""The road of a training run: labelled sentences → windows → steps → the best epoch → a tagger's folder."""

import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from build_models.candidates import write_tokenizer
from build_models.description import SourceModel, describe
from build_models.json_files import read_json
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
from build_models.ner.run import Encoded, Run, measure
from build_models.ner.run_folder import RunFolder, check_same
from build_models.ner.train import (
    TRIAL_STEPS,
    PrecisionChoice,
    choose_precision,
    prepare_device,
)
from build_models.ner.training_report import REPORT_JSON, TrainingReport
from build_models.ner.words import WordTokenizer
from build_models.output import check_output, publish, workspace
from build_models.progress import say
from build_models.sources import resolve
from worker.bundle import TOKENIZER, Pooling, file_sha256

# Of the weights' size: the checkpoint with both moments of AdamW, the next one, two best epochs, the tagger.
_SPACE_FACTOR = 10
# What transformers reads beside `tokenizer.json`.
_TOKENIZER_FILES = ("special_tokens_map.json", "added_tokens.json", "vocab.txt", "vocab.json", "merges.txt")
_TOKENIZER_CONFIG = "tokenizer_config.json"


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
    tokenizer = [file for file in (source.folder / TOKENIZER,) if file.is_file()]
    files = [
        *weights,
        *tokenizer,
        source.folder / "config.json",
        *(split_file(data, split) for split in Split),
    ]
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
        split: Encoded(rows, tokenizer.encode([row.words for row in rows]))
        for split, rows in sentences.items()
    }
    tagger = new_tagger(source.folder, labels, config.seed)
    tagger.network.to(device)
    run = Run(config, folder, tagger, splits)
    if "precision" in notes:
        choice = PrecisionChoice.from_json(notes["precision"])
    else:
        choice = choose_precision(tagger, config.amp, run.first_batches(TRIAL_STEPS))
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
        validation=measure(tagger, splits[Split.VALIDATION], "validation of the best epoch"),
        test=measure(tagger, splits[Split.TEST], "test"),
    )
    return report, tagger


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
