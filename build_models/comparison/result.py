"""The road of a comparison: arguments → subjects → one table each → JSON and plot."""

import errno
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from build_models.comparison.chart import draw
from build_models.comparison.config import CompareConfig, ReferenceSize
from build_models.comparison.embedding import embedding_table
from build_models.comparison.reference_size import reference_size_table
from build_models.comparison.stand_in import weight_bytes
from build_models.comparison.subjects import Subject, read_subjects
from build_models.comparison.table import Comparison, Table
from build_models.comparison.tagging import tagging_table
from build_models.errors import OutputError
from build_models.report import machine, versions
from build_models.whole_file import check_place, write_whole
from worker.bundle import Task

# Of the weights' size: a stand-in's own, raw and lean graph, the FP32 row and the quantized one.
_SPACE_FACTOR = 5


def compare(config: CompareConfig) -> Comparison:
    """Measures what a configuration asks for, and writes the files that it names.

    Raises:
        BundleError: A folder is no bundle, or a damaged one.
        BuildError: A model or a set does not fit, or a file cannot be written.
    """
    for path in (config.plot, config.json):
        if path is not None:
            check_place(path)
    subjects = read_subjects(config)
    tables = [_table(subject, config) for subject in subjects]
    if config.reference_size is not ReferenceSize.NONE:
        with _folder(weight_bytes(config.reference_size)) as folder:
            tables.append(reference_size_table(config, subjects[0], folder))
    comparison = Comparison(tuple(tables), config.queries, config.tokens, machine(), versions())
    if config.json is not None:
        text = json.dumps(comparison.to_json(), indent=2, ensure_ascii=False) + "\n"
        write_whole(config.json, text.encode())
    if config.plot is not None:
        draw(comparison, config.plot)
    return comparison


def _table(subject: Subject, config: CompareConfig) -> Table:
    with _folder(_weight_bytes(subject)) as folder:
        make = tagging_table if subject.task is Task.NER else embedding_table
        return make(subject, config, folder)


def _weight_bytes(subject: Subject) -> int:
    """Returns the size of the weights that are exported; 0 where none are."""
    files = subject.model.path.rglob("*") if subject.model is not None else ()
    return sum(file.stat().st_size for file in files if file.suffix in (".safetensors", ".bin"))


@contextmanager
def _folder(weights: int) -> Iterator[Path]:
    """Makes a folder for the graphs of a model with so many bytes of weights, and removes it afterwards.

    Raises:
        OutputError: It cannot be made, there is too little space for it, or none is left.
    """
    parent = Path(tempfile.gettempdir())
    try:
        folder = Path(tempfile.mkdtemp(prefix="embedpool-compare-"))
    except OSError as error:
        raise OutputError(
            f"cannot make a folder in {parent} ({error.strerror}); set TMPDIR to another one"
        ) from error
    try:
        free, needed = shutil.disk_usage(folder).free, _SPACE_FACTOR * weights
        if free < needed:
            raise OutputError(
                f"{parent} has {free >> 20} MiB left, the exported graphs need about {needed >> 20}; "
                "free some space or set TMPDIR to another folder"
            )
        yield folder
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise OutputError(f"no space is left in {parent}; free some or set TMPDIR") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
