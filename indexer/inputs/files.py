"""Globs to described inputs, and the checks that come before any document is embedded."""

import glob
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from indexer.config import PlanConfig
from indexer.errors import InputError
from indexer.inputs import parquet
from indexer.inputs.duplicates import find_duplicate
from indexer.plan import InputFile, Plan


def resolve(patterns: Sequence[str]) -> list[Path]:
    """Returns the absolute paths that match, sorted, each once; raises InputError for one without a match."""
    found = set()
    for pattern in patterns:
        matches = [pattern] if Path(pattern).is_file() else glob.glob(pattern, recursive=True)  # noqa: PTH207 - Path has no absolute globs
        files = [Path(match).resolve() for match in matches if Path(match).is_file()]
        if not files:
            what = "is a folder, wanted files" if Path(pattern).is_dir() else "matches no file"
            raise InputError(
                f"--input {pattern} {what}; give a Parquet file or a glob such as '{_example(pattern)}'"
            )
        found.update(files)
    return sorted(found)


def _example(pattern: str) -> str:
    return str(Path(pattern) / "*.parquet") if Path(pattern).is_dir() else "data/*.parquet"


def describe(paths: Sequence[Path], config: PlanConfig) -> list[InputFile]:
    """Reads every footer and checks the columns; raises InputError naming the first file that is wrong."""
    described = []
    for path in paths:
        described.append(parquet.describe_input(path))
        parquet.check_columns(path, config.id_column, config.text_columns)
    return described


def check_ids(plan: Plan) -> None:
    """Raises InputError when an id stands in two of the planned rows; naming both."""
    twice = find_duplicate(lambda: _ids(plan), plan.rows)
    if twice is not None:
        raise InputError(
            f"{plan.config.id_column} '{twice.doc_id.decode(errors='replace')}' is there twice: "
            f"{place(plan, twice.first)} and {place(plan, twice.second)} (rows count from 0); "
            "ids must be unique: mend the input, or choose another --id-column"
        )


def _ids(plan: Plan) -> Iterator[tuple[int, Sequence[bytes | None]]]:
    for number, of_file in groupby(plan.units, key=lambda unit: unit.file):
        units = list(of_file)
        # Units of a file are consecutive, and so are their bases.
        shift = units[0].base - units[0].start
        for row, ids in parquet.read_ids(plan.inputs[number], plan.config.id_column, units):
            yield row + shift, ids


def place(plan: Plan, row_id: int) -> str:
    """Returns file and row of a row's id, for messages."""
    unit = plan.unit_of(row_id)
    return f"{plan.inputs[unit.file].path} row {unit.start + row_id - unit.base}"
