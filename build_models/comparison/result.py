"""The road of a comparison: arguments → subjects → one table each → JSON and plot."""

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
from build_models.comparison.subjects import Subject, read_subjects
from build_models.comparison.table import Comparison, Table
from build_models.comparison.tagging import tagging_table
from build_models.errors import OutputError
from build_models.report import machine, versions
from build_models.whole_file import check_place, write_whole
from worker.bundle import Task


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
        with _folder() as folder:
            tables.append(reference_size_table(config, subjects[0], folder))
    comparison = Comparison(tuple(tables), config.queries, config.tokens, machine(), versions())
    if config.json is not None:
        text = json.dumps(comparison.to_json(), indent=2, ensure_ascii=False) + "\n"
        write_whole(config.json, text.encode())
    if config.plot is not None:
        draw(comparison, config.plot)
    return comparison


def _table(subject: Subject, config: CompareConfig) -> Table:
    with _folder() as folder:
        make = tagging_table if subject.task is Task.NER else embedding_table
        return make(subject, config, folder)


@contextmanager
def _folder() -> Iterator[Path]:
    """Makes a folder for what is needed only now.

    Raises:
        OutputError: It cannot be made.
    """
    try:
        folder = tempfile.mkdtemp(prefix="embedpool-compare-")
    except OSError as error:
        raise OutputError(
            f"cannot make a folder in {tempfile.gettempdir()} ({error.strerror}); set TMPDIR to another one"
        ) from error
    try:
        yield Path(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
