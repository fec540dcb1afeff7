"""Columns by reference: values by row id, read from the inputs and never copied into the index.

Guarantees: any number of threads may ask; the cache is bounded by bytes, and what one call reads at a time by
some MiB a thread; a value is that of the input as it was indexed, or the call fails.
Assumes: an input that changes shows another size, time of change or other row groups.
"""

import os
from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate, repeat
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa

from indexer.errors import InputError
from indexer.inputs.filesystems import first_line
from indexer.inputs.indexed import IndexedFile, columns_of, folder_numbers, unknown_columns
from indexer.plan import Plan

__all__ = ["ColumnReader", "columns_of"]

_CACHE_BYTES = 64 << 20  # arbitrary
_BLOCK_SHARE = 8  # a column of a row group is kept whole where it takes at most this part of the cache
_ENTRY_BYTES = 200  # of keys and links of a cached value, about
_ROWS = 4096  # decoded at once at most; arbitrary
_FOOTERS = 64  # kept parsed; arbitrary, some 100 kB each for a large file
_READERS = min(8, os.cpu_count() or 1)  # row groups read at once; decoding keeps a core busy

_Group = tuple[int, int]  # number of an input, and of a row group in it


class ColumnReader:
    """Reads columns of the rows of an index.

    Args:
        plan: The index's plan.
        cache_bytes: Decoded values that are kept for later calls, about.
    """

    def __init__(self, plan: Plan, cache_bytes: int = _CACHE_BYTES) -> None:
        self._plan = plan
        self._starts = [list(accumulate(file.row_groups, initial=0)) for file in plan.inputs]
        self._numbers = folder_numbers(plan)
        self._cache = _Cache(cache_bytes)
        self._footers: OrderedDict[int, Any] = OrderedDict()
        self._lock = Lock()

    @cached_property
    def names(self) -> list[str]:
        """The columns that any input has; opens them all, once. Raises InputError."""
        return columns_of(self._plan)

    def rows(self, row_ids: Sequence[int], columns: Sequence[str]) -> list[dict[str, object]]:
        """Returns the values of columns for each row id, in their order; None where the input has no value.

        Text is str, bytes in a text column that are no UTF-8 are replaced; other types are as pyarrow turns
        them to Python.

        Raises:
            ConfigError: No input has such a column; names those there are.
            InputError: An input changed, is gone or damaged; names it.
            StoreError: A row id is in no unit.
        """
        if not columns:
            return [{} for _ in row_ids]
        places = [self._place(row_id) for row_id in row_ids]
        wanted: defaultdict[_Group, set[int]] = defaultdict(set)
        for group, row in places:
            wanted[group].add(row)
        names = list(dict.fromkeys(columns))
        found = dict(zip(wanted, self._read_all(wanted, names), strict=True))
        return [{name: found[group][name, row] for name in names} for group, row in places]

    def _place(self, row_id: int) -> tuple[_Group, int]:
        """Returns where a row lies: its row group, and its row in there."""
        unit = self._plan.unit_of(row_id)
        row, starts = unit.start + row_id - unit.base, self._starts[unit.file]
        number = int(np.searchsorted(starts, row, side="right")) - 1
        return (unit.file, number), row - starts[number]

    def _read_all(
        self, wanted: Mapping[_Group, set[int]], names: Sequence[str]
    ) -> Iterable[dict[tuple[str, int], object]]:
        if len(wanted) == 1:
            return [self._read(group, rows, names) for group, rows in wanted.items()]
        with ThreadPoolExecutor(_READERS, "columns") as readers:
            return list(readers.map(self._read, wanted, wanted.values(), repeat(names)))

    def _read(self, group: _Group, rows: set[int], names: Sequence[str]) -> dict[tuple[str, int], object]:
        """Returns the values of rows of one row group by column and row, from the cache or the file."""
        found: dict[tuple[str, int], object] = {}
        missing = []
        for name in names:
            cached = self._cache.find(group, name, rows)
            if cached is None:
                missing.append(name)
            else:
                found |= {(name, row): value for row, value in cached.items()}
        if missing:
            for name, values in self._read_file(group, sorted(rows), missing).items():
                found |= {(name, row): value for row, value in values.items()}
        return found

    def _read_file(
        self, group: _Group, rows: Sequence[int], names: Sequence[str]
    ) -> dict[str, dict[int, object]]:
        number, row_group = group
        with self._lock:
            footer = self._footers.get(number)
        with IndexedFile.opened(self._plan.inputs[number], self._numbers, footer) as file:
            self._keep_footer(number, file.file.reader.metadata)
            if not set(names) <= set(file.columns):
                unknown_columns(names, [self.names])
            picked = {name: _Picked(self._cache.limit // _BLOCK_SHARE) for name in names}
            left = np.asarray(rows, dtype=np.int64)
            for first, arrays in file.group(row_group, names, rows[-1] + 1, _ROWS):
                length = len(arrays[names[0]])
                here = left[(left >= first) & (left < first + length)]
                for name in names:
                    try:
                        picked[name].take(arrays[name], first, here)
                    except pa.ArrowException as error:  # an unknown time zone, for example
                        raise InputError(
                            f"column '{name}' of {file.file.name} cannot be shown ({first_line(error)}); "
                            "leave it out"
                        ) from error
        for name, of_column in picked.items():
            self._cache.keep(group, name, of_column)
        return {name: of_column.values for name, of_column in picked.items()}

    def _keep_footer(self, number: int, footer: Any) -> None:
        with self._lock:
            self._footers[number] = footer
            self._footers.move_to_end(number)
            while len(self._footers) > _FOOTERS:
                self._footers.popitem(last=False)


@dataclass
class _Picked:
    """What was read of one column of a row group: the wanted values, and all arrays while they are small.

    Attributes:
        limit: Bytes of arrays at most; with more they are let go.
        values: By row of the row group.
        bytes: Of the wanted values, about.
        arrays: From the first row on without gaps; None when there were too many bytes.
    """

    limit: int
    values: dict[int, object] = field(default_factory=dict)
    bytes: int = 0
    arrays: list[Any] | None = field(default_factory=list)
    _size: int = 0

    def take(self, array: Any, first: int, rows: Any) -> None:
        """Takes a piece of the column that begins with row `first`, of which `rows` are wanted."""
        if len(rows):
            chosen = array.take(pa.array(rows - first))
            self.values |= dict(zip(rows.tolist(), _python(chosen), strict=True))
            self.bytes += int(chosen.nbytes)
        self._size += int(array.nbytes)
        if self.arrays is not None:
            self.arrays.append(array)
            if self._size > self.limit:
                self.arrays = None


def _python(array: Any) -> list[object]:
    """Returns the values of an array; bytes that should be text and are not have replacement characters."""
    try:
        values: list[object] = array.to_pylist()
    except UnicodeDecodeError:
        raw = array.cast(pa.large_binary()).to_pylist()
        return [None if value is None else value.decode(errors="replace") for value in raw]
    return values


class _Cache:
    """Columns of row groups where they are small, else single values; the least lately used are let go.

    Args:
        limit: Bytes at most, about.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._bytes = 0
        self._entries: OrderedDict[object, tuple[Any, int]] = OrderedDict()
        self._lock = Lock()

    def find(self, group: _Group, name: str, rows: Iterable[int]) -> dict[int, object] | None:
        """Returns the values of rows of a column; None unless all are there."""
        with self._lock:
            block = self._get((group, name))
            if block is None or max(rows) >= len(block):
                values = {row: self._get((group, name, row)) for row in rows}
                return None if None in values.values() else {row: one[0] for row, one in values.items()}
        return {row: _python(block.slice(row, 1))[0] for row in rows}

    def keep(self, group: _Group, name: str, picked: _Picked) -> None:
        """Keeps what was read."""
        with self._lock:
            if picked.arrays:
                block = pa.chunked_array(picked.arrays)
                self._put((group, name), block, int(block.nbytes))
            else:
                each = picked.bytes // max(1, len(picked.values))
                for row, value in picked.values.items():
                    self._put((group, name, row), (value,), each)

    def _get(self, key: object) -> Any:
        if key not in self._entries:
            return None
        self._entries.move_to_end(key)
        return self._entries[key][0]

    def _put(self, key: object, value: Any, size: int) -> None:
        size += _ENTRY_BYTES
        self._bytes += size - self._entries.get(key, (None, 0))[1]
        self._entries[key] = (value, size)
        self._entries.move_to_end(key)
        while self._bytes > self.limit:
            _, (_, freed) = self._entries.popitem(last=False)
            self._bytes -= freed
