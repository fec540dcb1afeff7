"""What is compared: the bundles of each task, the model that they were built from, and the data to judge by.

Everything that can be wrong with the arguments is found here, before anything is measured.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from build_models.comparison.config import CompareConfig
from build_models.errors import BuildError, EvaluationError
from build_models.json_files import read_json
from build_models.sources import DEFAULT_MODEL, ModelFolder, packaged_folder, resolve
from worker.bundle import Bundle, Manifest, Task, read_bundle

_RETRIEVAL_FILE, _TAGGING_FILE = "corpus.parquet", "test.parquet"  # by which a set's task is known
_TAGGER = "ForTokenClassification"  # how the class of a tagger ends in its config


@dataclass(frozen=True)
class Subject:
    """One table: the bundles of one task.

    Attributes:
        task: What they compute.
        bundles: In the order given.
        model: The folder that they were built from; None where it is not known.
        eval_data: Folders of the task's evaluation sets.
    """

    task: Task
    bundles: tuple[Bundle, ...]
    model: ModelFolder | None
    eval_data: tuple[Path, ...]

    @property
    def manifest(self) -> Manifest:
        """The first bundle's manifest: how the model is to be read."""
        return self.bundles[0].manifest


def read_subjects(config: CompareConfig) -> tuple[Subject, ...]:
    """Reads what a comparison is about, embedding before tagging.

    Raises:
        BundleError: A folder is no bundle, or a damaged one.
        BuildError: A model or a set fits none of the bundles, or bundles cannot stand in one table.
    """
    bundles = [read_bundle(path) for path in dict.fromkeys(config.bundles)]
    for bundle in bundles:
        if bundle.manifest.max_tokens < config.tokens:
            raise BuildError(
                f"{bundle.path} reads {bundle.manifest.max_tokens} tokens at most, queries of "
                f"{config.tokens} were asked for: give fewer --tokens"
            )
    tasks = [task for task in Task if any(bundle.manifest.task is task for bundle in bundles)]
    models = _by_task([resolve(model) for model in config.models], tasks)
    for folder in config.eval_data:
        _check_task(folder, _task_of_data(folder), tasks)
    return tuple(
        _subject(
            task,
            tuple(bundle for bundle in bundles if bundle.manifest.task is task),
            models.get(task),
            tuple(folder for folder in config.eval_data if _task_of_data(folder) is task),
        )
        for task in tasks
    )


def _subject(
    task: Task, bundles: tuple[Bundle, ...], model: ModelFolder | None, eval_data: tuple[Path, ...]
) -> Subject:
    if task is Task.NER and not eval_data:
        raise EvaluationError(
            f"{bundles[0].path} is a tagger: give --eval-data with labelled sentences ({_TAGGING_FILE})"
        )
    if len({(bundle.manifest.dim, bundle.manifest.labels) for bundle in bundles}) > 1:
        found = ", ".join(f"{bundle.path} {_shape(bundle.manifest)}" for bundle in bundles)
        raise BuildError(f"these are not of one model: {found}; compare bundles of one model at a time")
    if model is None and all(bundle.manifest.name == DEFAULT_MODEL for bundle in bundles):
        model = resolve(DEFAULT_MODEL) if packaged_folder() is not None else None
    return Subject(task, bundles, model, eval_data)


def check_fits(subject: Subject, model: str, dim: int, labels: Sequence[str] = ()) -> None:
    """Compares a model's shape with that of the bundles.

    Raises:
        BuildError: They differ.
    """
    manifest = subject.manifest
    if (dim, tuple(labels)) != (manifest.dim, manifest.labels):
        wanted = f"{len(labels)} labels" if labels else f"{dim} dimensions"
        raise BuildError(
            f"{subject.bundles[0].path} has {_shape(manifest)}, the model {model} has {wanted}: "
            "give the --model that it was built from"
        )


def _shape(manifest: Manifest) -> str:
    return f"{len(manifest.labels)} labels" if manifest.labels else f"{manifest.dim} dimensions"


def _by_task(models: Sequence[ModelFolder], tasks: Sequence[Task]) -> dict[Task, ModelFolder]:
    found: dict[Task, ModelFolder] = {}
    for model in models:
        task = _task_of_model(model)
        _check_task(model.path, task, tasks)
        if task in found:
            raise BuildError(f"{found[task].path} and {model.path} are both for {task}: give one of them")
        found[task] = model
    return found


def _check_task(path: Path, task: Task, tasks: Sequence[Task]) -> None:
    if task not in tasks:
        raise BuildError(f"{path} is for {task}, the bundles are for {', '.join(tasks)}: give what fits")


def _task_of_model(model: ModelFolder) -> Task:
    classes = read_json(model.path / "config.json", missing_is_empty=True).get("architectures") or []
    return Task.NER if any(str(name).endswith(_TAGGER) for name in classes) else Task.EMBEDDING


def _task_of_data(folder: Path) -> Task:
    if (folder / _RETRIEVAL_FILE).is_file():
        return Task.EMBEDDING
    if (folder / _TAGGING_FILE).is_file():
        return Task.NER
    raise EvaluationError(
        f"{folder} is no evaluation set: it has neither {_RETRIEVAL_FILE} (for {Task.EMBEDDING}) "
        f"nor {_TAGGING_FILE} (for {Task.NER})"
    )
