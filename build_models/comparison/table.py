"""The result of a comparison as data, as Markdown and as JSON. Pure: nothing here measures."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from build_models.comparison.timing import BATCH, BUSY, Precision
from worker.bundle import Task

_MB = 1_000_000


@dataclass(frozen=True)
class Score:
    """Quality of one row on one set.

    Attributes:
        name: Of the set.
        measure: What was measured; more is better.
        value: The figure, 0 to 1.
        kept: `value` over that of the table's first row.
        bound: Lower 95 % bound of `kept`; None for the first row, or where there is none.
    """

    name: str
    measure: str
    value: float
    kept: float
    bound: float | None = None


@dataclass(frozen=True)
class Row:
    """One system.

    Attributes:
        name: Unique in its table.
        precision: What it computes with.
        model_bytes: Size of its model file, bytes.
        milliseconds: Of one query on one core, wall clock.
        cpu_milliseconds: The same on the computing thread's own clock.
        way: How it was run.
        scores: One for each set; none where weights are random.
    """

    name: str
    precision: Precision
    model_bytes: int
    milliseconds: float
    cpu_milliseconds: float
    way: str
    scores: tuple[Score, ...] = ()


@dataclass(frozen=True)
class Table:
    """The systems of one model.

    Attributes:
        title: Model and task.
        task: What they compute.
        rows: The first is what ratios refer to.
        notes: One line each.
    """

    title: str
    task: Task
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    def size_ratio(self, row: Row) -> float:
        """Returns a row's size over the first row's."""
        return row.model_bytes / self.rows[0].model_bytes

    def time_ratio(self, row: Row) -> float:
        """Returns a row's CPU time over the first row's.

        Not of wall time, which programs beside this one stretch.
        """
        return row.cpu_milliseconds / self.rows[0].cpu_milliseconds


@dataclass(frozen=True)
class Comparison:
    """All that a comparison found.

    Attributes:
        tables: One for each model.
        queries: How many were timed.
        tokens: Of each of them.
        machine: What the timings were taken on.
        versions: Package to version.
    """

    tables: tuple[Table, ...]
    queries: int
    tokens: int
    machine: str
    versions: Mapping[str, str]

    @property
    def busy(self) -> bool:
        """Whether the machine was computing something else while rows were timed."""
        return max(row.milliseconds / row.cpu_milliseconds for row in self._rows()) > BUSY

    def to_json(self) -> dict[str, Any]:
        """Returns every figure as plain values, ratios among them."""
        tables = [
            {
                **asdict(table),
                "rows": [
                    {
                        **asdict(row),
                        "size_ratio": table.size_ratio(row),
                        "time_ratio": table.time_ratio(row),
                    }
                    for row in table.rows
                ],
            }
            for table in self.tables
        ]
        return {**asdict(self), "busy": self.busy, "tables": tables}

    def to_markdown(self) -> str:
        """Returns the tables for people."""
        parts = []
        for table in self.tables:
            parts += [f"## {table.title}", _lines(table)]
            parts.append("\n".join(f"- {note}" for note in (*table.notes, _ways(table))))
        parts.append("\n".join(f"- {note}" for note in self._notes()))
        return "\n\n".join(parts) + "\n"

    def _rows(self) -> Iterator[Row]:
        for table in self.tables:
            yield from table.rows

    def _notes(self) -> Iterator[str]:
        yield (
            f"{self.queries} queries of {self.tokens} tokens, one core, without tokenizing; medians over "
            f"rounds of {BATCH} queries in which the rows take turns. Ratios are to the first row; that of "
            "time is of CPU time."
        )
        if self.busy:
            worst = max(row.milliseconds / row.cpu_milliseconds for row in self._rows())
            yield (
                f"The machine was busy: wall time was up to {worst:.2f} times CPU time. "
                "Trust CPU times and ratios, and run again on an idle machine."
            )
        yield f"{self.machine}; " + ", ".join(f"{name} {number}" for name, number in self.versions.items())


def _ways(table: Table) -> str:
    ways: dict[str, list[str]] = {}
    for row in table.rows:
        ways.setdefault(row.way, []).append(row.name)
    return "Run " + "; ".join(f"{way}: {', '.join(names)}" for way, names in ways.items()) + "."


def _lines(table: Table) -> str:
    first = table.rows[0]
    sets = [f"{score.name} {score.measure}" for score in first.scores]
    header = ["", "size, MB", "size ratio", "ms per query", "CPU ms per query", "time ratio"]
    for name in sets:
        header += [name, "kept (95 % bound)"]
    lines = [_line(header), _line(["---", *["---:"] * (len(header) - 1)])]
    return "\n".join(lines + [_line(_cells(table, row)) for row in table.rows])


def _cells(table: Table, row: Row) -> Sequence[str]:
    cells = [
        row.name,
        f"{row.model_bytes / _MB:.1f}",
        f"{table.size_ratio(row):.3f}",
        f"{row.milliseconds:.2f}",
        f"{row.cpu_milliseconds:.2f}",
        f"{table.time_ratio(row):.3f}",
    ]
    for score in row.scores:
        bound = "" if score.bound is None else f" ({score.bound:.4f})"
        cells += [f"{score.value:.4f}", f"{score.kept:.4f}{bound}"]
    return cells


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
