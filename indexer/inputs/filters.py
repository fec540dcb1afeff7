"""Filters over the inputs' own columns: which rows satisfy a condition."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from indexer.inputs.comparisons import compare, one_of
from indexer.inputs.condition_text import parse
from indexer.inputs.conditions import And, Condition, IsNull, Not, OneOf, Or, columns_in
from indexer.inputs.indexed import IndexedFile, files_in_force, folder_numbers, unknown_columns
from indexer.plan import Plan, Unit

__all__ = ["Condition", "mask", "parse"]

_READERS = 8  # files read at once; arbitrary, more than the cores of most machines and few for a store
_ROWS = 65_536  # evaluated at once at most; arbitrary


def mask(plan: Plan, condition: Condition) -> NDArray[np.bool_]:
    """Returns which rows satisfy a condition, bool `[plan.end]` by row id; False where it is null.

    Reads only the columns that the condition names, of the files in force; rows that no unit holds are False.

    Raises:
        ConfigError: There is no such column, or its values cannot be compared so; says what there is.
        InputError: An input changed, is gone or damaged; names it.
    """
    wanted = columns_in(condition)
    files = files_in_force(plan)
    numbers = folder_numbers(plan)
    kept = np.zeros(plan.end, dtype=np.bool_)

    def evaluate_file(number: int) -> list[str]:
        units = files[number]
        with IndexedFile.opened(plan.inputs[number], numbers) as file:
            for start, arrays in file.batches(wanted, units[-1].stop, _ROWS):
                _place(kept, units, start, _satisfied(condition, arrays))
            return file.columns

    with ThreadPoolExecutor(_READERS, "filter") as readers:
        there = list(readers.map(evaluate_file, files))
    unknown_columns(wanted, there)
    return kept


def _place(kept: NDArray[np.bool_], units: Sequence[Unit], start: int, satisfied: NDArray[np.bool_]) -> None:
    """Writes the outcome for rows from `start` on to the row ids of the units that hold them."""
    stop = start + len(satisfied)
    for unit in units:
        first, last = max(start, unit.start), min(stop, unit.stop)
        if first < last:
            shift = unit.base - unit.start
            kept[first + shift : last + shift] = satisfied[first - start : last - start]


def _satisfied(condition: Condition, arrays: Mapping[str, Any]) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = evaluate(condition, arrays).fill_null(False).to_numpy(zero_copy_only=False)
    return found


def evaluate(condition: Condition, arrays: Mapping[str, Any]) -> Any:
    """Returns the outcome for each row as a bool array with nulls, by the three-valued logic of SQL.

    Args:
        condition: What to look for.
        arrays: Every column that it names, of one length.

    Raises:
        ConfigError: Values of a column cannot be compared so.
    """
    match condition:
        case And(parts):
            return reduce(pc.and_kleene, (evaluate(part, arrays) for part in parts))
        case Or(parts):
            return reduce(pc.or_kleene, (evaluate(part, arrays) for part in parts))
        case Not(part):
            return pc.invert(evaluate(part, arrays))
        case IsNull(column):
            return pc.is_null(arrays[column])
        case OneOf(column, values):
            return one_of(column, arrays[column], values)
        case _:
            return compare(condition.column, arrays[condition.column], condition.operator, condition.value)
