"""The plot of a build: quality over time of every candidate, for a slide."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from build_models.canvas import BLUE, GREEN, INK, ORANGE, box_of, figure, label, legend, save, style
from build_models.label_places import Box

_FRONT = "#8a94a0"
_GATE = "#b3261e"
_LOG_FROM = 6.0  # largest x over smallest from which the left half of a linear axis would be a crowd
# Points further out than this many interquartile ranges are drawn at the edge with their value, because
# they would press all others together. 1.5 is Tukey's outside; for quality his far out, so that what
# just misses the gate keeps its place.
_SLOW_FENCE = 1.5
_POOR_FENCE = 3.0
_SLOW_MEDIANS = 2.0  # times the median: what is faster than this is never far out; arbitrary
_FENCE_FROM = 5  # points; with fewer, quartiles say nothing
_EDGE = 0.03  # of the axes' height, half of it of their width: where points beyond them are drawn
_NAME_CHARACTERS = 34  # longer names are cut


class Outcome(StrEnum):
    """What became of a candidate."""

    CHOSEN = "chosen"
    PASSED = "passed the gate"
    REFUSED = "refused by the gate"
    PRUNED = "not asked of the gate"


@dataclass(frozen=True)
class Point:
    """One candidate of a Pareto plot.

    Attributes:
        name: What its label says.
        milliseconds: Time of one document.
        quality: On the plot's y axis; None if it was not measured, which the footer then says.
        outcome: What became of it.
        bound: Lower end of the quality's 95 % interval, drawn as a line downwards; None for none.
    """

    name: str
    milliseconds: float
    quality: float | None
    outcome: Outcome
    bound: float | None = None


@dataclass(frozen=True)
class _Look:
    """How an outcome is drawn: colour, marker, area of the marker in square points."""

    colour: str
    marker: str
    area: float


_LOOKS = {
    Outcome.CHOSEN: _Look(BLUE, "*", 330),
    Outcome.PASSED: _Look(GREEN, "o", 80),
    Outcome.REFUSED: _Look(ORANGE, "X", 90),
    Outcome.PRUNED: _Look("#9aa3ad", "v", 60),
}


def pareto(
    points: Sequence[Point],
    target: Path,
    *,
    title: str,
    quality_label: str,
    time_label: str = "milliseconds per document, one core",
    threshold: float | None = None,
    threshold_label: str = "gate",
    footer: str = "",
) -> None:
    """Writes a scatter of candidates, quality over time, with the front of those that none beats in both.

    Args:
        points: In any order; the front is that of all that have a quality.
        target: PNG of `PIXELS`, written whole or not at all.
        title: One line; says the finding.
        quality_label: Title of the y axis, with its unit; more is better.
        time_label: Title of the x axis, with its unit; less is better.
        threshold: Least quality that passes, on the y axis; None for no line.
        threshold_label: What the line is called.
        footer: Machine, sample and whatever else the figures need to be understood.

    Raises:
        OutputError: It cannot be written there.
    """
    drawn = sorted((p for p in points if p.quality is not None), key=lambda p: (p.milliseconds, p.name))
    absent = [f"{p.name} ({p.milliseconds:.3g} ms)" for p in points if p.quality is None]
    notes = [footer] if footer else []
    if absent:
        notes.append("quality not measured: " + ", ".join(absent))
    with style():
        canvas = figure(title, "\n".join(notes))
        axes = canvas.add_axes((0.07, 0.17, 0.895, 0.61))
        axes.set_xlabel(f"{time_label}  (← less is better)")
        # Above the axis, where it is read without turning one's head.
        axes.set_title(f"{quality_label}  (↑ more is better)", loc="left", fontsize=11, color=INK)
        if drawn:
            _draw_candidates(axes, drawn, threshold, threshold_label)
            _legend(canvas, drawn)
        else:
            axes.text(0.5, 0.5, "no candidate was measured", ha="center", transform=axes.transAxes)
        save(canvas, target)


def front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Returns the pairs (time, quality) that no other is at least as good in both as; ascending in time."""
    best = -math.inf
    kept = []
    for time, quality in sorted(points, key=lambda pair: (pair[0], -pair[1])):
        if quality > best:
            best = quality
            kept.append((time, quality))
    return kept


def fences(values: Sequence[float], factor: float) -> tuple[float, float]:
    """Returns the ends beyond which a value stands far from the others: quartiles ± factor × their range.

    Source: J. W. Tukey, Exploratory Data Analysis (1977), chapter 2. Infinite for fewer than five values.
    """
    if len(values) < _FENCE_FROM:
        return -math.inf, math.inf
    first, _, third = statistics.quantiles(values, n=4, method="inclusive")
    return first - factor * (third - first), third + factor * (third - first)


def _draw_candidates(axes: Axes, points: Sequence[Point], threshold: float | None, called: str) -> None:
    _scale_time(axes, [point.milliseconds for point in points])
    axes.set_ylim(*_quality_range(points, threshold))
    axes.yaxis.set_major_locator(MaxNLocator(6))
    _draw_front(axes, points)
    gate = _draw_threshold(axes, threshold, called) if threshold is not None else []
    places = [_inside(axes, point) for point in points]
    for point, (x, y) in zip(points, places, strict=True):
        look = _LOOKS[point.outcome]
        axes.scatter(
            x,
            y,
            s=look.area,
            c=look.colour,
            marker=look.marker,
            edgecolors="white",
            linewidths=0.8,
            zorder=5 if point.outcome is Outcome.CHOSEN else 4,
        )
        if point.bound is not None:
            axes.vlines(x, point.bound, y, color=look.colour, linewidth=1.6, alpha=0.45, zorder=3)
    label(
        axes,
        places,
        [_text(point, place) for point, place in zip(points, places, strict=True)],
        [_LOOKS[point.outcome].colour for point in points],
        bold=[point.outcome is Outcome.CHOSEN for point in points],
        obstacles=gate,
    )


def _draw_front(axes: Axes, points: Sequence[Point]) -> None:
    steps = front([(point.milliseconds, _quality(point)) for point in points])
    end = (max(axes.get_xlim()[1], steps[-1][0]), steps[-1][1])
    axes.step(*zip(*steps, end, strict=True), where="post", color=_FRONT, linewidth=1.6, zorder=2)


def _inside(axes: Axes, point: Point) -> tuple[float, float]:
    """Returns where a point is drawn: at its place, or at the edge it lies beyond."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    x = min(point.milliseconds, right - _EDGE / 2 * (right - left))
    return x, max(_quality(point), low + _EDGE * (high - low))


def _text(point: Point, place: tuple[float, float]) -> str:
    name = point.name if len(point.name) <= _NAME_CHARACTERS else point.name[: _NAME_CHARACTERS - 1] + "…"
    slow = f"  → {point.milliseconds:.3g} ms" if point.milliseconds > place[0] else ""
    poor = f"  ↓ {_quality(point):.3g}" if _quality(point) < place[1] else ""
    return name + slow + poor


def _quality(point: Point) -> float:
    if point.quality is None:
        raise ValueError(f"{point.name} has no quality to draw")
    return point.quality


def _quality_range(points: Sequence[Point], threshold: float | None) -> tuple[float, float]:
    values = [_quality(point) for point in points]
    wanted = [] if threshold is None else [threshold]
    fence, _ = fences(values, _POOR_FENCE)
    low = min([value for value in values if value >= fence] + wanted)
    low = min([low, *(p.bound for p in points if p.bound is not None and p.bound >= min(low, fence))])
    high = max(values + wanted)
    # A finger's breadth of air; a thousandth of the value keeps rounding from looking like a difference.
    air = max(0.12 * (high - low), 0.001 * abs(high), 1e-9)
    return low - air, high + air


def _scale_time(axes: Axes, times: Sequence[float]) -> None:
    fence = max(fences(times, _SLOW_FENCE)[1], _SLOW_MEDIANS * statistics.median(times))
    least, most = min(times), max(time for time in times if time <= fence)
    if least > 0 and most / least > _LOG_FROM:
        axes.set_xscale("log")
        axes.set_xlim(least / 1.25, most * 1.6)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        return
    air = 0.08 * (most - least) or 0.1 * abs(most) or 1.0
    # Names go to the right of their points.
    axes.set_xlim(max(0.0, least - air), most + 2.5 * air)
    axes.xaxis.set_major_locator(MaxNLocator(8))


def _draw_threshold(axes: Axes, threshold: float, called: str) -> list[Box]:
    axes.axhline(threshold, color=_GATE, linestyle=(0, (6, 4)), linewidth=1.3, zorder=1)
    low, high = axes.get_ylim()
    place = 0.998, threshold + 0.01 * (high - low)
    told, across = f"{called} {threshold:g}", axes.get_yaxis_transform()
    text = axes.text(*place, told, ha="right", va="bottom", transform=across, color=_GATE, fontsize=10)
    return [box_of(axes, text)]


def _legend(drawn: Figure, points: Sequence[Point]) -> None:
    present = {point.outcome for point in points}
    handles = [
        Line2D([], [], linestyle="", marker=look.marker, color=look.colour, markersize=9, label=str(outcome))
        for outcome, look in _LOOKS.items()
        if outcome in present
    ]
    handles.append(Line2D([], [], color=_FRONT, linewidth=1.6, label="best at this time or less"))
    legend(drawn, handles)
