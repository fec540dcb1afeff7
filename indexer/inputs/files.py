"""Names to described inputs, and the checks that come before any document is embedded."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby

from indexer.config import OnError, PlanConfig
from indexer.documents import Chunk, Reason, join_texts
from indexer.errors import InputAwayError, InputError
from indexer.inputs import parquet
from indexer.inputs.duplicates import find_duplicate, find_duplicates
from indexer.inputs.globs import resolve
from indexer.plan import InputFile, Plan, Unit

__all__ = ["SkippedFile", "check_ids", "describe", "place", "refused_ids", "resolve"]

_LOOKERS = 16  # footers read at once: stores answer in tens of ms, and there may be ten thousand files
_ANY_SIZE = 1 << 62  # bytes: which texts are too large is the pools' to say


@dataclass(frozen=True)
class SkippedFile:
    """A file that was left out, and why in one line."""

    path: str
    reason: str


def describe(
    paths: Sequence[str], config: PlanConfig, on_error: OnError = OnError.STOP
) -> tuple[list[InputFile], list[SkippedFile]]:
    """Reads every footer and checks the columns; returns the good files and those left out, in order.

    Raises:
        InputError: A file is wrong (stop), or every one is (skip); names the first.
        InputAwayError: A store does not answer, whatever `on_error` says: nothing is wrong with its files.
    """

    def look(path: str) -> InputFile | InputError:
        try:
            return parquet.check_columns(path, config.id_column, config.text_columns)
        except InputAwayError:
            raise
        except InputError as error:
            if on_error is OnError.STOP:
                raise
            return error

    with ThreadPoolExecutor(_LOOKERS, "look") as lookers:
        looked = list(lookers.map(look, paths))
    skipped = [
        SkippedFile(path, str(found))
        for path, found in zip(paths, looked, strict=True)
        if isinstance(found, InputError)
    ]
    described = [found for found in looked if isinstance(found, InputFile)]
    if skipped and not described:
        raise InputError(f"none of the {len(skipped)} inputs can be read; the first: {skipped[0].reason}")
    return described, skipped


def check_ids(plan: Plan, units: Sequence[Unit] | None = None) -> None:
    """Raises InputError when an id stands in two rows of these units, of all without any; names both.

    Takes 8 bytes of memory for each row.
    """
    chosen = plan.units if units is None else units
    twice = find_duplicate(lambda: _ids(plan, chosen, OnError.STOP), _end(chosen))
    if twice is not None:
        raise InputError(
            f"{plan.config.id_column} '{twice.doc_id.decode(errors='replace')}' is there twice: "
            f"{place(plan, twice.first)} and {place(plan, twice.second)} (rows count from 0); "
            "ids must be unique: mend the input, or choose another --id-column"
        )


def refused_ids(plan: Plan, units: Sequence[Unit] | None = None) -> dict[int, str]:
    """Returns the row ids whose document id an earlier row of these units has, and why they are rejected.

    The first row stands that has a text which can be read: no document is lost for the sake of a row that is
    none. The same plan gives the same, however often. Takes 8 bytes of memory for each row, some hundred for
    each row whose id stands elsewhere, and reads the texts of units with such rows.
    """
    chosen = plan.units if units is None else units
    groups: dict[int, list[int]] = {}
    for twice in find_duplicates(lambda: _ids(plan, chosen, OnError.SKIP), _end(chosen)):
        groups.setdefault(twice.first, [twice.first]).append(twice.second)
    no_documents = _no_documents(plan, chosen, {row for rows in groups.values() for row in rows})
    refused: dict[int, str] = {}
    for rows in groups.values():
        first, *later = [row for row in rows if row not in no_documents] or rows[:1]
        refused |= {row: f"{Reason.DUPLICATE_ID}: also {place(plan, first)}" for row in later}
    return refused


def _no_documents(plan: Plan, units: Sequence[Unit], wanted: set[int]) -> set[int]:
    """Returns those of some row ids whose rows have no text or cannot be read."""
    touched = [unit for unit in units if not wanted.isdisjoint(range(unit.base, unit.base + unit.rows))]
    found = set()
    for chunk in _chunks(plan, touched, plan.config.text_columns, OnError.SKIP):
        first = chunk.unit.base + chunk.first_row - chunk.unit.start
        for index in range(len(chunk.ids)):
            if first + index in wanted:
                text = join_texts((column[index] for column in chunk.columns), _ANY_SIZE)
                if chunk.unreadable or isinstance(text, Reason):
                    found.add(first + index)
    return found


def _end(units: Sequence[Unit]) -> int:
    return sum(unit.rows for unit in units)


def _ids(
    plan: Plan, units: Sequence[Unit], on_error: OnError
) -> Iterator[tuple[int, Sequence[bytes | None]]]:
    """Yields row id of the first, and ids, of pieces of rows."""
    for chunk in _chunks(plan, units, (), on_error):
        yield chunk.unit.base + chunk.first_row - chunk.unit.start, chunk.ids


def _chunks(
    plan: Plan, units: Sequence[Unit], text_columns: Sequence[str], on_error: OnError
) -> Iterator[Chunk]:
    for number, of_file in groupby(units, key=lambda unit: unit.file):
        yield from parquet.read_chunks(
            plan.inputs[number], plan.config.id_column, text_columns, of_file, on_error
        )


def place(plan: Plan, row_id: int) -> str:
    """Returns file and row of a row's id, for messages."""
    unit = plan.unit_of(row_id)
    return f"{plan.inputs[unit.file].path} row {unit.start + row_id - unit.base}"
