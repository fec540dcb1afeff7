"""Recall over speed as a picture. The one file here that uses matplotlib, and only when it is asked to."""

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from indexer.errors import ConfigError
from indexer.index.meta import Meta
from indexer.index.recall import Point, pareto
from indexer.index.tuning import Evaluation
from indexer.store.durable import write_durable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_INCHES, _DPI = (10, 5.625), 160  # a slide's shape, sharp on a projector
_BLUE, _ORANGE, _GREY, _INK = "#0072B2", "#D55E00", "#5c6570", "#222222"  # Okabe and Ito's, and two greys
_LABELS = 9  # of settings at most, so that they do not overlap; arbitrary
_STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "text.parse_math": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": _GREY,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e9ed",
}


def check_installed() -> None:
    """Raises ConfigError, naming what to install, without matplotlib: before anything is measured."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            "--plot needs matplotlib, which only the toolchain installs: pip install 'embedpool[build]', "
            "or pip install matplotlib; --json gives the same figures"
        ) from error


def draw(meta: Meta, evaluation: Evaluation, picked: Point | None, target: Path) -> None:
    """Writes a PNG, whole or not at all: recall@k and queries/s of each setting, and what is in use.

    Raises:
        StorageError: It cannot be written there.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):  # type: ignore[arg-type]
        figure = Figure(figsize=_INCHES, dpi=_DPI)
        FigureCanvasAgg(figure)
        axes = figure.add_axes((0.09, 0.13, 0.82, 0.7))
        _title(figure, meta, evaluation)
        _points(axes, evaluation, meta, picked)
        drawn = io.BytesIO()
        # Without the version of the software: the same figures give the same bytes.
        figure.savefig(drawn, format="png", metadata={"Software": None})
    write_durable(target, drawn.getvalue())


def _title(figure: Any, meta: Meta, evaluation: Evaluation) -> None:
    figure.text(
        0.09, 0.93, f"{meta.key}: what more effort finds, and costs", fontsize=16, weight="bold", color=_INK
    )
    asked = "held-out vectors" if evaluation.held_out else "queries"
    figure.text(
        0.09,
        0.875,
        f"{meta.count:,} vectors of {meta.dim} values; {evaluation.queries:,} {asked}, "
        "one after the other on one core",
        color=_GREY,
    )


def _points(axes: "Axes", evaluation: Evaluation, meta: Meta, picked: Point | None) -> None:
    from matplotlib.ticker import FuncFormatter

    front = sorted(pareto(evaluation.points), key=lambda point: point.recall)
    axes.set_yscale("log")
    axes.set_xlabel(f"recall@{evaluation.k} against exact search")
    axes.set_ylabel("queries/s")
    axes.plot(
        [point.recall for point in front],
        [point.queries_per_second for point in front],
        marker="o",
        color=_BLUE,
        label="settings that no other beats",
    )
    beaten = [point for point in evaluation.points if point not in front]
    _marks(axes, beaten, "x", _GREY, "settings that another beats")
    in_use = [point for point in evaluation.points if dict(point.setting) == dict(meta.search)]
    _marks(axes, in_use, "D", _INK, "in use by searches")
    _marks(axes, [picked] if picked is not None else [], "*", _ORANGE, "picked by the wishes")
    _labels(axes, front, [*in_use, *([picked] if picked is not None else [])])
    axes.margins(x=0.06, y=0.12)
    plain = FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}")
    axes.yaxis.set_major_formatter(plain)
    axes.yaxis.set_minor_formatter(plain if _is_narrow(front) else FuncFormatter(lambda *_: ""))
    axes.legend(loc="lower left", frameon=False)


def _is_narrow(points: list[Point]) -> bool:
    """Returns whether an axis by tens would show hardly a number."""
    speeds = [point.queries_per_second for point in points]
    return max(speeds) < 10 * min(speeds)


def _marks(axes: "Axes", points: list[Point], marker: str, colour: str, label: str) -> None:
    if points:
        axes.plot(
            [point.recall for point in points],
            [point.queries_per_second for point in points],
            linestyle="",
            marker=marker,
            markersize=15 if marker == "*" else 8,
            color=colour,
            zorder=3,
            label=label,
        )


def _labels(axes: "Axes", front: list[Point], marked: list[Point]) -> None:
    """Names the marked points, and as many others as have room between them."""
    step = -(-len(front) // _LABELS)
    near = {at + beside for at, point in enumerate(front) if point in marked for beside in (-1, 1)}
    others = [point for at, point in enumerate(front) if (len(front) - 1 - at) % step == 0 and at not in near]
    for named in [*marked, *(point for point in others if point not in marked)]:
        axes.annotate(
            named.name,
            (named.recall, named.queries_per_second),
            xytext=(8, 7),
            textcoords="offset points",
            fontsize=9,
            color=_INK if named in marked else _GREY,
            weight="bold" if named in marked else "normal",
        )
