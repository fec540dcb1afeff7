"""Inputs of an index as they were planned: opened only while they are still the same."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import pyarrow as pa

from indexer.errors import ConfigError, InputError
from indexer.inputs import parquet_file
from indexer.inputs.partitions import are_numbers, partitions
from indexer.plan import InputFile, Plan, Unit, changes

_BATCH_BYTES = 8 << 20  # decoded at once, about
_LOOKERS = 16  # footers read at once, see files.py


def files_in_force(plan: Plan) -> dict[int, list[Unit]]:
    """Returns the units, in order, of each input by number; without the inputs that later ones replaced."""
    gone = plan.superseded()
    by_file = groupby(plan.units, key=lambda unit: unit.file)
    return {number: list(units) for number, units in by_file if number not in gone}


def folder_numbers(plan: Plan) -> frozenset[str]:
    """Returns the columns spelt by folders whose values are whole numbers in every input."""
    values: dict[str, list[str | None]] = {}
    for file in plan.inputs:
        for column, value in partitions(file.path).items():
            values.setdefault(column, []).append(value)
    return frozenset(column for column, of_column in values.items() if are_numbers(of_column))


def columns_of(plan: Plan) -> list[str]:
    """Returns the columns that any input in force has, folders included; opens them all.

    Raises:
        InputError: An input changed, is gone or damaged; names it.
    """

    def look(number: int) -> list[str]:
        with IndexedFile.opened(plan.inputs[number], frozenset()) as file:
            return file.columns

    with ThreadPoolExecutor(_LOOKERS, "look") as lookers:
        return _union(lookers.map(look, files_in_force(plan)))


def unknown_columns(wanted: Iterable[str], there: Sequence[Sequence[str]]) -> None:
    """Raises ConfigError for a column that no file has; says which there are."""
    known = _union(there)
    for name in wanted:
        if there and name not in known:
            raise ConfigError(f"no input has a column '{name}'; there are: {parquet_file.shown(known)}")


def _union(names: Iterable[Sequence[str]]) -> list[str]:
    return list(dict.fromkeys(name for of_file in names for name in of_file))


@dataclass(frozen=True)
class IndexedFile:
    """An open input that is still the one that was indexed.

    Attributes:
        file: The open file.
        numbers: The columns spelt by folders that are whole numbers.
    """

    file: parquet_file.OpenFile
    numbers: frozenset[str]

    @staticmethod
    @contextmanager
    def opened(described: InputFile, numbers: frozenset[str], footer: Any = None) -> Iterator["IndexedFile"]:
        """Opens an input.

        Args:
            described: As it was planned.
            numbers: See the class.
            footer: pyarrow's metadata of the file where it was read before, which saves reading it.

        Raises:
            InputError: It changed, is gone or damaged.
        """
        with parquet_file.opened(described.path, footer) as file:
            for change in changes(described, file.described()):
                raise InputError(f"{change} since it was indexed: run the same 'run' command again")
            yield IndexedFile(file, numbers)

    @property
    def columns(self) -> list[str]:
        """The names of its columns, those of folders included."""
        return self.file.columns

    def batches(
        self, columns: Sequence[str], stop: int, most_rows: int
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yields (first row, an array for each column) of the rows before `stop`; null where it has none.

        Raises:
            InputError: A row group cannot be read, or a column is there twice.
        """
        start = 0
        for number, rows in enumerate(self.file.row_groups):
            if start >= stop:
                break
            for first, arrays in self.group(number, columns, min(rows, stop - start), most_rows):
                yield start + first, arrays
            start += rows

    def group(
        self, number: int, columns: Sequence[str], stop: int, most_rows: int
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """As `batches`, of the first `stop` rows of one row group, which rows count from."""
        own = [name for name in columns if name in self.file.own]
        for name in own:
            if self.file.own.count(name) > 1:
                raise InputError(f"{self.file.name} has more than one column '{name}': write it again")
        start = 0
        for rows, arrays in self._read(number, own, stop, most_rows):
            others = {name: self._folder(name, rows) for name in columns if name not in own}
            yield start, arrays | others
            start += rows
            if start >= stop:
                break

    def _read(
        self, number: int, own: Sequence[str], stop: int, most_rows: int
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        if not own:
            yield stop, {}
            return
        try:
            for batch in parquet_file.batches(self.file, number, own, most_rows, _BATCH_BYTES):
                yield batch.num_rows, {name: batch.column(name) for name in own}
        except Exception as error:  # file systems of fsspec raise anything
            raise parquet_file.unreadable(self.file.name, number, error) from error

    def _folder(self, name: str, rows: int) -> Any:
        value = self.file.folders.get(name)
        if name in self.numbers:
            return pa.repeat(pa.scalar(None if value is None else int(value), pa.int64()), rows)
        if name in self.file.folders:
            return pa.repeat(pa.scalar(value, pa.string()), rows)
        return pa.nulls(rows)
