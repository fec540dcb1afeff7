"""Which rows become which units. Pure: no files, no clock; the same inputs always give the same plan.

A unit is a fixed range of rows of one file, whatever pools there are. Units are numbered in the order of
files and rows, and their bases count rows without gaps, so `base + row in unit` names a row of the whole
input: it is the FAISS id, and needs no hash and no database to be turned back.
"""

import json
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from indexer.config import PlanConfig, VectorType
from indexer.errors import StoreError

SCHEMA_VERSION = 1
SEPARATOR = "\n"  # between the texts of a document's columns


@dataclass(frozen=True)
class InputFile:
    """A Parquet file as it was when the index was planned.

    Attributes:
        path: Absolute path.
        size: Bytes.
        mtime_ns: Time of the last change, ns since the epoch.
        row_groups: Rows of each row group.
    """

    path: str
    size: int
    mtime_ns: int
    row_groups: tuple[int, ...]

    @property
    def rows(self) -> int:
        """Rows of the whole file."""
        return sum(self.row_groups)


@dataclass(frozen=True)
class Model:
    """The model whose vectors the index holds, as its pool described it.

    Attributes:
        fingerprint: Names the vectors; equal only if every text gets the same vector.
        name: For people.
        dim: Values of a vector.
        normalized: Whether vectors have unit length.
    """

    fingerprint: str
    name: str
    dim: int
    normalized: bool

    def label(self) -> str:
        """Returns name and short fingerprint, for messages."""
        return f"{self.name} ({self.fingerprint[:12]})"


@dataclass(frozen=True)
class Unit:
    """Rows that are committed together: `rows` of them from row `start` of input number `file`."""

    number: int
    file: int
    start: int
    rows: int
    base: int

    @property
    def stop(self) -> int:
        """First row of the file after the unit."""
        return self.start + self.rows


@dataclass(frozen=True)
class Plan:
    """Everything that decides the vectors of an index; `plan.json` is this class as JSON."""

    inputs: tuple[InputFile, ...]
    config: PlanConfig
    model: Model
    units: tuple[Unit, ...]
    separator: str = SEPARATOR
    schema_version: int = SCHEMA_VERSION

    @property
    def rows(self) -> int:
        """Rows of all units."""
        return sum(unit.rows for unit in self.units)

    @property
    def end(self) -> int:
        """One past the highest row id that was ever given."""
        return max((unit.base + unit.rows for unit in self.units), default=0)

    def superseded(self) -> frozenset[int]:
        """Returns the numbers of inputs whose path stands again later."""
        latest = {file.path: number for number, file in enumerate(self.inputs)}
        return frozenset(range(len(self.inputs))) - frozenset(latest.values())

    def unit_of(self, row_id: int) -> Unit:
        """Returns the unit that holds a FAISS id; raises StoreError for an id outside the plan."""
        position = bisect_right(self.units, row_id, key=lambda unit: unit.base) - 1
        if position < 0 or row_id >= self.units[position].base + self.units[position].rows:
            raise StoreError(
                f"FAISS id {row_id} is outside the plan's {self.rows} rows; build the index again"
            )
        return self.units[position]

    def to_json(self) -> str:
        """Returns the text of `plan.json`."""
        return json.dumps(asdict(self), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def make_plan(inputs: Sequence[InputFile], config: PlanConfig, model: Model) -> Plan:
    """Returns the plan for inputs in this order."""
    units = tuple(cut_units([file.rows for file in inputs], config.unit_rows, config.limit))
    return Plan(tuple(inputs), config, model, units)


def cut_units(file_rows: Sequence[int], unit_rows: int, limit: int | None) -> Iterator[Unit]:
    """Yields units of at most `unit_rows` that cover the first `limit` rows of files of `file_rows` rows."""
    left = sum(file_rows) if limit is None else min(limit, sum(file_rows))
    number = base = 0
    for file, rows in enumerate(file_rows):
        wanted = min(rows, left)
        for start in range(0, wanted, unit_rows):
            size = min(unit_rows, wanted - start)
            yield Unit(number, file, start, size, base)
            number += 1
            base += size
        left -= wanted


def touched_row_groups(row_groups: Sequence[int], units: Sequence[Unit]) -> list[tuple[int, int]]:
    """Returns (number, first row) of the row groups that hold a row of one of a file's units, in order."""
    touched = []
    first = 0
    for number, rows in enumerate(row_groups):
        next_unit = bisect_right(units, first, key=lambda unit: unit.stop)
        if rows and next_unit < len(units) and units[next_unit].start < first + rows:
            touched.append((number, first))
        first += rows
    return touched


def differences(old: Plan, new: Plan) -> list[str]:
    """Returns what differs between an index's plan and the one that a command asks for."""
    found = []
    if old.model.fingerprint != new.model.fingerprint:
        found.append(
            f"the index holds vectors of model {old.model.label()}, the pool serves {new.model.label()}"
        )
    elif old.model != new.model:
        found.append(f"the model was described as {old.model}, now as {new.model}")
    for name, before in asdict(old.config).items():
        after = asdict(new.config)[name]
        if before != after:
            found.append(f"{name.replace('_', ' ')} was {_shown(before)}, now {_shown(after)}")
    found.extend(_input_differences(old.inputs, new.inputs))
    if not found and old != new:
        found.append("this release cuts the inputs otherwise")
    return found


def _shown(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _input_differences(old: Sequence[InputFile], new: Sequence[InputFile]) -> Iterator[str]:
    before = {file.path: file for file in old}
    after = {file.path: file for file in new}
    yield from (f"input {path} is no longer among the inputs" for path in before if path not in after)
    yield from (f"input {path} was not there" for path in after if path not in before)
    for path in (path for path in before if path in after):
        yield from changes(before[path], after[path])


def changes(old: InputFile, new: InputFile) -> Iterator[str]:
    """Yields how an input differs from what it was; nothing if it is the same."""
    if old.size != new.size:
        yield f"input {old.path} had {old.size} bytes, now {new.size}"
    elif old.row_groups != new.row_groups:
        before, now = (f"{file.rows} rows in {len(file.row_groups)} row groups" for file in (old, new))
        yield f"input {old.path} had {before}, now {now}"
    elif old.mtime_ns != new.mtime_ns:
        yield f"input {old.path} was written again (same size, other time of change)"


def read_plan(text: str) -> Plan:
    """Reads the text of `plan.json`.

    Raises:
        StoreError: It is not JSON, of another schema version or has wrong fields.
    """
    try:
        raw = json.loads(text)
        if raw["schema_version"] != SCHEMA_VERSION:
            raise StoreError(
                f"plan.json has schema version {raw['schema_version']}, this release reads {SCHEMA_VERSION}; "
                "build the index again with this release"
            )
        return _plan(raw)
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(
            f"plan.json is damaged ({error!r}); delete the index folder and build it again"
        ) from error


def _plan(raw: Mapping[str, Any]) -> Plan:
    config = dict(raw["config"])
    config["text_columns"] = tuple(config["text_columns"])
    config["vector_type"] = VectorType(config["vector_type"])
    return Plan(
        inputs=tuple(
            InputFile(**{**file, "row_groups": tuple(file["row_groups"])}) for file in raw["inputs"]
        ),
        config=PlanConfig(**config),
        model=Model(**raw["model"]),
        units=tuple(Unit(**unit) for unit in raw["units"]),
        separator=raw["separator"],
    )
