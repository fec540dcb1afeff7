"""Which rows become which units. Pure: no files, no clock; the same inputs always give the same plan.

A unit is a fixed range of rows of one file, whatever pools there are. Units are numbered in the order of
files and rows, and their bases count rows without gaps, so `base + row in unit` names a row of the whole
input: it is the FAISS id, and needs no hash and no database to be turned back.

A plan is never changed, only added to: inputs that are new, or that changed, come as an `Addition` whose
units go on with the numbers and bases. A file that changed stands among the inputs twice, and the later one
counts.
"""

from bisect import bisect_right
from collections.abc import Container, Iterator, Sequence
from dataclasses import asdict, dataclass, replace

from indexer.config import PlanConfig
from indexer.errors import StoreError

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
class Addition:
    """What a later run adds to a plan; `store.plan_file` keeps it.

    Attributes:
        inputs: Files that are new or have changed, in order.
        units: Of their rows; numbers and bases go on from the parts before.
        retired: Numbers of earlier units that were never committed and whose file has changed: none will
            ever be.
        duplicates: Whether document ids stand twice among the units, so that later rows are rejected.
    """

    inputs: tuple[InputFile, ...]
    units: tuple[Unit, ...]
    retired: tuple[int, ...] = ()
    duplicates: bool = False


@dataclass(frozen=True)
class Plan:
    """Everything that decides the vectors of an index; `store.plan_file` keeps it.

    Attributes:
        inputs: Of all parts, in order; a file that changed stands here once more for each change.
        config: What the index holds.
        model: Whose vectors.
        units: Of all parts, in order, without the retired ones: each is or will be committed.
        separator: Between the texts of a document's columns.
        parts: For each part, the first unit's number.
        end: One past the highest row id that was ever given.
        next_unit: One past the highest number of a unit that was ever given.
        duplicates: Numbers of the parts in which document ids stand twice.
    """

    inputs: tuple[InputFile, ...]
    config: PlanConfig
    model: Model
    units: tuple[Unit, ...]
    separator: str = SEPARATOR
    parts: tuple[int, ...] = (0,)
    end: int = 0
    next_unit: int = 0
    duplicates: frozenset[int] = frozenset()

    @property
    def rows(self) -> int:
        """Rows of all units."""
        return sum(unit.rows for unit in self.units)

    def superseded(self) -> frozenset[int]:
        """Returns the numbers of inputs whose path stands again later."""
        latest = {file.path: number for number, file in enumerate(self.inputs)}
        return frozenset(range(len(self.inputs))) - frozenset(latest.values())

    def latest(self) -> dict[str, InputFile]:
        """Returns the inputs by path, each as it was planned last."""
        return {file.path: file for file in self.inputs}

    def part(self, number: int) -> tuple[Unit, ...]:
        """Returns the units of a part that are not retired."""
        first = self.parts[number]
        stop = self.parts[number + 1] if number + 1 < len(self.parts) else self.next_unit
        return tuple(unit for unit in self.units if first <= unit.number < stop)

    def added(self, addition: Addition) -> "Plan":
        """Returns this plan with a further part."""
        retired = set(addition.retired)
        last = addition.units[-1:]
        return replace(
            self,
            inputs=self.inputs + addition.inputs,
            units=tuple(unit for unit in self.units if unit.number not in retired) + addition.units,
            parts=(*self.parts, self.next_unit),
            end=last[0].base + last[0].rows if last else self.end,
            next_unit=last[0].number + 1 if last else self.next_unit,
            duplicates=self.duplicates | ({len(self.parts)} if addition.duplicates else set()),
        )

    def unit_of(self, row_id: int) -> Unit:
        """Returns the unit that holds a FAISS id; raises StoreError for an id outside the plan."""
        position = bisect_right(self.units, row_id, key=lambda unit: unit.base) - 1
        if position < 0 or row_id >= self.units[position].base + self.units[position].rows:
            raise StoreError(
                f"FAISS id {row_id} is outside the plan's {self.rows} rows; build the index again"
            )
        return self.units[position]


def make_plan(inputs: Sequence[InputFile], config: PlanConfig, model: Model) -> Plan:
    """Returns the plan of one part for inputs in this order."""
    units = tuple(cut_units([file.rows for file in inputs], config.unit_rows, config.limit))
    return plan_of_units(tuple(inputs), config, model, units)


def plan_of_units(
    inputs: tuple[InputFile, ...],
    config: PlanConfig,
    model: Model,
    units: tuple[Unit, ...],
    separator: str = SEPARATOR,
) -> Plan:
    """Returns the plan of one part that has these units."""
    end = units[-1].base + units[-1].rows if units else 0
    return Plan(inputs, config, model, units, separator, end=end, next_unit=len(units))


def make_addition(
    plan: Plan, inputs: Sequence[InputFile], committed: Container[int], unreadable: Container[str] = ()
) -> Addition | None:
    """Returns what inputs add to a plan: those that are new to it or have changed; None if nothing is.

    Args:
        plan: What was planned so far, without a limit on rows.
        inputs: The files that a command asks for, as they are now, in order.
        committed: Numbers of the units that are committed.
        unreadable: Paths of inputs that are left out because they cannot be read now.
    """
    known = plan.latest()
    whole = _whole(plan)
    fresh = tuple(file for file in inputs if file != known.get(file.path) or file.path not in whole)
    changed = {file.path for file in fresh}
    retired = tuple(
        unit.number
        for unit in plan.units
        if unit.number not in committed
        and ((path := plan.inputs[unit.file].path) in changed or path in unreadable)
    )
    if not fresh and not retired:
        return None
    cut = cut_units([file.rows for file in fresh], plan.config.unit_rows, None)
    units = tuple(
        replace(
            unit,
            number=unit.number + plan.next_unit,
            file=unit.file + len(plan.inputs),
            base=unit.base + plan.end,
        )
        for unit in cut
    )
    return Addition(fresh, units, retired)


def _whole(plan: Plan) -> set[str]:
    """Returns the paths of inputs none of whose units was retired since they were planned last."""
    planned = [0] * len(plan.inputs)
    for unit in plan.units:
        planned[unit.file] += unit.rows
    latest = {file.path: number for number, file in enumerate(plan.inputs)}
    return {path for path, number in latest.items() if planned[number] == plan.inputs[number].rows}


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


def differences(old: Plan, config: PlanConfig, model: Model) -> list[str]:
    """Returns what an index holds otherwise than a command asks for, its inputs aside."""
    found = []
    if old.model.fingerprint != model.fingerprint:
        found.append(f"the index holds vectors of model {old.model.label()}, the pool serves {model.label()}")
    elif old.model != model:
        found.append(f"the model was described as {old.model}, now as {model}")
    asked = asdict(config)
    for name, before in asdict(old.config).items():
        if before != asked[name]:
            found.append(f"{name.replace('_', ' ')} was {_shown(before)}, now {_shown(asked[name])}")
    return found


def _shown(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def changes(old: InputFile, new: InputFile) -> Iterator[str]:
    """Yields how an input differs from what it was; nothing if it is the same."""
    if old.size != new.size:
        yield f"input {old.path} had {old.size} bytes, now {new.size}"
    elif old.row_groups != new.row_groups:
        before, now = (f"{file.rows} rows in {len(file.row_groups)} row groups" for file in (old, new))
        yield f"input {old.path} had {before}, now {now}"
    elif old.mtime_ns != new.mtime_ns:
        yield f"input {old.path} was written again (same size, other time of change)"
