"""The comparison as a slide: how large each system is, and what quality it keeps at which time."""

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from build_models.canvas import (
    BLUE,
    GREY,
    INK,
    ORANGE,
    PURPLE,
    figure,
    label,
    legend,
    marker_boxes,
    save,
    style,
)
from build_models.comparison.table import Comparison, Row, Score, Table
from build_models.comparison.timing import Precision

_MB = 1_000_000
_COLOURS = {Precision.PYTORCH_FP32: PURPLE, Precision.ONNX_FP32: ORANGE, Precision.ONNX_INT8: BLUE}
_MARKERS = "osD^vP"  # of evaluation sets; more sets than these share
# Percentage points that the quality axis spans at least, so that rounding does not look like a difference.
_LEAST_SPAN = 2.0
_PAPER = {"facecolor": "white", "edgecolor": "none", "pad": 1}  # behind text that crosses the grid
_NAME_CHARACTERS = 24  # longer names are cut
_TITLE_CHARACTERS = 40  # of a model's name that the title has room for


def draw(comparison: Comparison, target: Path) -> None:
    """Writes the chart as PNG, whole or not at all.

    Raises:
        OutputError: It cannot be written there.
    """
    with style():
        canvas = figure(_title(comparison), _footer(comparison))
        judged = [table for table in comparison.tables if table.rows[0].scores]
        _sizes(canvas.add_axes((0.165, 0.17, 0.36 if judged else 0.8, 0.6)), comparison.tables)
        if judged:
            _quality(canvas.add_axes((0.61, 0.17, 0.37, 0.6)), judged)
        _legends(canvas, comparison.tables, judged)
        save(canvas, target)


def _title(comparison: Comparison) -> str:
    first = comparison.tables[0].title.partition(":")[0]
    alone = len(comparison.tables) == 1 and len(first) <= _TITLE_CHARACTERS
    return f"{first}: size, time and quality" if alone else "Size, time and quality"


def _footer(comparison: Comparison) -> str:
    busy = "; the machine was busy: run again when it is idle" if comparison.busy else ""
    return (
        f"{comparison.queries} queries of {comparison.tokens} tokens, without tokenizing; CPU time on "
        f"{comparison.machine}{busy}"
    )


def _sizes(axes: Axes, tables: Sequence[Table]) -> None:
    """Draws a bar for each row, the tables below each other with their titles between."""
    place, places, names = 0.0, [], []
    widest = max(row.model_bytes for table in tables for row in table.rows) / _MB
    for table in tables:
        if len(tables) > 1:
            axes.text(
                0, place, table.title, va="center", fontweight="bold", fontsize=10, color=INK, bbox=_PAPER
            )
            place += 1
        for row in table.rows:
            size = row.model_bytes / _MB
            told = f"{size:.1f} MB, {row.cpu_milliseconds:.1f} ms"
            axes.barh(place, size, height=0.66, color=_COLOURS[row.precision])
            axes.text(size + 0.02 * widest, place, told, va="center", fontsize=10, bbox=_PAPER)
            places.append(place)
            names.append(_name(row))
            place += 1
        place += 0.3
    axes.set_ylim(place - 0.7, -0.7)
    axes.set_yticks(places, names, color=INK, fontsize=10)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.set_xlim(0, 1.6 * widest)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.set_xlabel("size of the model file, MB  (← less is better)")
    axes.set_title("size, and CPU time of one query", loc="left", fontsize=11, color=INK)


def _quality(axes: Axes, tables: Sequence[Table]) -> None:
    """Draws a marker for each row and set, those of one row joined."""
    _scale_quality(axes, tables)
    markers = dict(zip(_sets(tables), cycle(_MARKERS), strict=False))
    named: dict[str, tuple[float, float]] = {}  # of the tables' rows, the first of each name
    drawn: list[tuple[float, float]] = []
    for row in (row for table in tables for row in table.rows):
        x, ys = row.cpu_milliseconds, [100 * score.kept for score in row.scores]
        colour = _COLOURS[row.precision]
        axes.vlines(x, min(ys), max(ys), color=colour, linewidth=1.4, alpha=0.5, zorder=3)
        for score, y in zip(row.scores, ys, strict=True):
            marker = markers[_set(score)]
            axes.scatter(x, y, s=85, c=colour, marker=marker, edgecolors="white", linewidths=0.8, zorder=4)
        named.setdefault(_name(row), (x, min(ys)))
        drawn += [(x, y) for y in ys]
    label(
        axes,
        list(named.values()),
        list(named),
        [INK] * len(named),
        bold=[False] * len(named),
        obstacles=marker_boxes(axes, drawn),
    )


def _scale_quality(axes: Axes, tables: Sequence[Table]) -> None:
    rows = [row for table in tables for row in table.rows]
    kept = [100 * score.kept for row in rows for score in row.scores]
    middle, span = (max(kept) + min(kept)) / 2, max(1.3 * (max(kept) - min(kept)), _LEAST_SPAN)
    axes.set_ylim(middle - span / 2, middle + span / 2)
    axes.set_xlim(0, 1.3 * max(row.cpu_milliseconds for row in rows))
    axes.axhline(100, color=GREY, linewidth=1, zorder=1)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} %"))
    axes.set_xlabel("CPU ms per query, one core  (← less is better)")
    reference = tables[0].rows[0].name
    axes.set_title(f"quality kept of {reference}  (↑ more is better)", loc="left", fontsize=11, color=INK)


def _legends(canvas: Figure, tables: Sequence[Table], judged: Sequence[Table]) -> None:
    present = {row.precision for table in tables for row in table.rows}
    colours = [
        Line2D([], [], linestyle="", marker="s", markersize=10, color=colour, label=str(precision))
        for precision, colour in _COLOURS.items()
        if precision in present
    ]
    markers = [
        Line2D([], [], linestyle="", marker=marker, markersize=8, color=GREY, label=_short(name))
        for name, marker in zip(_sets(judged), cycle(_MARKERS), strict=False)
    ]
    legend(canvas, colours)
    if markers:
        legend(canvas, markers, row=1)


def _name(row: Row) -> str:
    """Returns what a row is called where its colour tells its precision."""
    recipe = row.name.removeprefix(Precision.ONNX_INT8).strip(" ()")
    return _short(recipe or row.name)


def _sets(tables: Sequence[Table]) -> list[str]:
    return list(dict.fromkeys(_set(score) for table in tables for row in table.rows for score in row.scores))


def _set(score: Score) -> str:
    return f"{score.name} {score.measure}"


def _short(name: str) -> str:
    return name if len(name) <= _NAME_CHARACTERS else name[: _NAME_CHARACTERS - 1] + "…"
