"""The picture: what is known of servers, as lines of spans that fit a terminal. Pure: no clock, no I/O."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from worker.operation.top.figures import Glyphs, bars, duration, rate, seconds, size
from worker.operation.top.interval import MEDIAN, OK, TAIL, ClassInterval, Interval, quantile
from worker.operation.top.snapshot import ProcessSnapshot, Snapshot
from worker.operation.top.watched import Fleet, History, Watched

_NAME = 9  # columns of the first column: "documents"
_COLUMNS = (
    ("texts/s", 8),
    ("tokens/s", 9),
    ("waiting", 8),
    ("in flight", 10),
    ("queue p50", 10),
    ("p99", 8),
    ("run p50", 9),
    ("p99", 8),
)
_PROCESS = (("slot", 4), ("pid", 9), ("state", 9), ("runs/s", 8), ("restarts", 9), ("PSS", 9))
_GAP = "   "
_FINGERPRINT = 12  # hex digits that people compare
_HEALTHY = "SERVING"
_LEAST_BARS = 10  # columns; fewer show nothing


class Style(Enum):
    """How a span looks where the terminal has colours."""

    PLAIN = "plain"
    NAME = "name"
    FAINT = "faint"
    GOOD = "good"
    BAD = "bad"


@dataclass(frozen=True)
class Span:
    """A piece of a line."""

    text: str
    style: Style = Style.PLAIN


Line = tuple[Span, ...]


@dataclass(frozen=True)
class Canvas:
    """What to draw on.

    Attributes:
        width: Columns.
        height: Rows; None for as many as there are.
        glyphs: Signs that can be shown.
        every: Seconds between two snapshots.
        keys: What to say of keys; "" where none are read.
    """

    width: int
    height: int | None
    glyphs: Glyphs
    every: float
    keys: str = ""


def frame(fleet: Fleet, canvas: Canvas) -> list[Line]:
    """Returns the picture; where it is too high, processes become one line, and the rest is cut."""
    lines = _lines(fleet, canvas, brief=False)
    if canvas.height is not None and len(lines) > canvas.height:
        lines = _lines(fleet, canvas, brief=True)
        if (more := len(lines) - canvas.height) > 0:
            note = (
                f"{canvas.glyphs.more} {more + 1} more lines: make the window higher, or name fewer servers"
            )
            lines = [*lines[: max(0, canvas.height - 1)], (Span(note, Style.BAD),)]
    return [_fitted(line, canvas) for line in lines]


def _lines(fleet: Fleet, canvas: Canvas, *, brief: bool) -> list[Line]:
    count = len(fleet.servers)
    servers = "1 server" if count == 1 else f"{count} servers"
    title = f"embedpool top  {servers}, every {canvas.every:g} s"
    keys = canvas.keys.rjust(canvas.width - len(title))
    lines: list[Line] = [(Span(title, Style.NAME), Span(keys, Style.FAINT))]
    if count > 1:
        lines += [*_all(fleet, canvas), ()]
    for number, server in enumerate(fleet.servers):
        lines += ([()] if number else []) + _server(server, canvas, brief=brief)
    note = "p50, p99: last interval, interpolated inside the server's histogram buckets"
    return [*lines, (Span(note, Style.FAINT),)]


def _all(fleet: Fleet, canvas: Canvas) -> list[Line]:
    away = len(fleet.servers) - len(fleet.present)
    standing = (Span(f"  {away} away", Style.BAD),) if away else ()
    return [
        (Span("all servers", Style.NAME), *standing),
        *_classes(fleet.present, fleet.interval),
        *_history(fleet.history, canvas),
    ]


def _server(server: Watched, canvas: Canvas, *, brief: bool) -> list[Line]:
    state = server.snapshot
    if state is None or server.away:
        told = Span("  AWAY", Style.BAD) if server.away else Span("  not asked yet", Style.FAINT)
        return [(Span(server.target, Style.NAME), told), (Span(server.away, Style.FAINT),)]
    interval, model = server.interval, state.model
    streams = "1 stream" if state.open_streams == 1 else f"{state.open_streams} streams"
    return [
        (
            Span(server.target, Style.NAME),
            Span(f"  {state.health}", Style.GOOD if state.health == _HEALTHY else Style.BAD),
            Span(f"  up {duration(state.uptime)}  {streams}"),
        ),
        (
            Span(f"{model.name}, {model.recipe}, {model.dim} dimensions"),
            Span(f"  generation {state.generation}  {state.fingerprint[:_FINGERPRINT]}", Style.FAINT),
        ),
        *_classes([state], interval),
        *_history(server.history, canvas),
        *_outcomes(server, state, canvas.glyphs),
        *_processes(state, interval.runs if interval else {}, canvas.width, brief=brief),
    ]


def _classes(states: Sequence[Snapshot], interval: Interval | None) -> Iterable[Line]:
    header = "".join(name.rjust(width) for name, width in _COLUMNS)
    yield (Span(" " * _NAME + header, Style.FAINT),)
    classes = (
        ("queries", [one.queries for one in states], interval.queries if interval else None),
        ("documents", [one.documents for one in states], interval.documents if interval else None),
    )
    for name, parts, known in classes:
        cells = (
            rate(known.texts if known else None),
            rate(known.tokens if known else None),
            f"{sum(part.waiting for part in parts):,}",
            size(sum(part.bytes_in_flight for part in parts)),
            *_times(known),
        )
        row = "".join(cell.rjust(width) for cell, (_, width) in zip(cells, _COLUMNS, strict=True))
        yield (Span(name.ljust(_NAME)), Span(row))


def _times(known: ClassInterval | None) -> Iterable[str]:
    for of in (known.queue, known.run) if known else (None, None):
        for q in (MEDIAN, TAIL):
            yield seconds(None if of is None else quantile(of, q))


def _history(history: History, canvas: Canvas) -> Iterable[Line]:
    for name, values in (("queries/s", history.queries), ("docs/s", history.documents)):
        width = canvas.width - _NAME - 3 - len("max 99,999")
        shown = bars(list(values), width, canvas.glyphs) if width >= _LEAST_BARS else ""
        top = max((value for value in list(values)[-max(1, width) :] if value is not None), default=None)
        yield (
            Span(f"{name.ljust(_NAME)} ", Style.FAINT),
            Span(shown.ljust(max(0, width)), Style.GOOD),
            Span(f"  max {rate(top)}", Style.FAINT),
        )


def _outcomes(server: Watched, state: Snapshot, glyphs: Glyphs) -> Iterable[Line]:
    interval = server.interval
    now = {"queries": interval.queries.others, "documents": interval.documents.others} if interval else {}
    ever = {
        name: {outcome: count for outcome, count in one.texts.items() if outcome != OK}
        for name, one in (("queries", state.queries), ("documents", state.documents))
    }
    for label, known in (("not ok now", now), ("since start", ever)):
        told = _told(known, glyphs)
        bad = Style.BAD if told and known is now else Style.PLAIN
        yield (Span(f"{label.ljust(12)}", Style.FAINT), Span(told or "none", bad if told else Style.FAINT))


def _told(classes: Mapping[str, Mapping[str, int]], glyphs: Glyphs) -> str:
    parts = (
        f"{name} " + ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(known.items()) if count)
        for name, known in classes.items()
        if any(known.values())
    )
    return f" {glyphs.dot} ".join(parts)


def _processes(state: Snapshot, runs: Mapping[int, float], width: int, *, brief: bool) -> Iterable[Line]:
    ends = ", ".join(f"{count:,} {why}" for why, count in sorted(state.ends.items()) if count)
    if brief:
        states = Counter(one.state for one in state.processes)
        told = ", ".join(f"{count} {name}" for name, count in sorted(states.items())) or "none"
        restarts = sum(one.restarts for one in state.processes)
        memory = size(sum(one.memory for one in state.processes))
        tail = f"  {rate(sum(runs.values()))} runs/s  {restarts} restarts  PSS {memory}"
        yield (
            Span("processes   ", Style.FAINT),
            Span(told + tail),
            Span(f"  {ends}" if ends else "", Style.BAD),
        )
        return
    header = "".join(name.rjust(columns) for name, columns in _PROCESS)
    side_by_side = max(1, (width + len(_GAP)) // (len(header) + len(_GAP)))
    shown = state.processes
    across = min(side_by_side, max(1, len(shown)))
    yield (Span(_GAP.join([header] * across), Style.FAINT),)
    down = -(-len(shown) // across)
    for row in range(down):
        cells = [shown[index] for index in range(row, len(shown), down)]
        yield tuple(_gapped(_process(one, runs.get(one.pid)) for one in cells))
    if ends:
        yield (Span("ended       ", Style.FAINT), Span(ends, Style.BAD))


def _process(one: ProcessSnapshot, runs: float | None) -> Span:
    values = (one.slot, one.pid or "-", one.state, rate(runs), f"{one.restarts:,}", size(one.memory))
    text = "".join(str(value).rjust(width) for value, (_, width) in zip(values, _PROCESS, strict=True))
    return Span(text, Style.PLAIN if one.pid else Style.BAD)


def _gapped(spans: Iterable[Span]) -> Iterable[Span]:
    for number, span in enumerate(spans):
        if number:
            yield Span(_GAP)
        yield span


def _fitted(line: Line, canvas: Canvas) -> Line:
    """Cuts a line to the width; what was cut shows as a sign."""
    if sum(len(span.text) for span in line) <= canvas.width:
        return line
    fitted, left = [], canvas.width - 1
    for span in line:
        fitted.append(Span(span.text[:left], span.style))
        left -= len(fitted[-1].text)
    return (*fitted, Span(canvas.glyphs.more, Style.FAINT))


def plain(lines: Iterable[Line]) -> str:
    """Returns lines as text."""
    return "\n".join("".join(span.text for span in line).rstrip() for line in lines)
