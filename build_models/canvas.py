"""The canvas of a plot for slides: size, style, legend, labels that do not overlap, and the PNG.

Drawn without a window system, a global figure or the user's style; the same data gives the same bytes.
Colours are Okabe and Ito's, which colour-blind people tell apart; no meaning should hang on colour alone.
"""

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.text import Text

from build_models.label_places import Box, place
from build_models.whole_file import write_whole

PIXELS = (1600, 900)  # a slide's shape, sharp on a projector
BLUE, GREEN, ORANGE, PURPLE = "#0072B2", "#009E73", "#D55E00", "#CC79A7"
GREY, INK = "#5c6570", "#222222"
_DPI = 160
_MARKER = 14.0  # pixels from a marker's middle that labels keep free
_STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "text.parse_math": False,  # a name may hold a dollar sign
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e9ed",
    "xtick.color": GREY,
    "ytick.color": GREY,
}


def legend(drawn: Figure, handles: Sequence[Line2D], row: int = 0) -> None:
    """Puts a legend of one line under the title, where it can cover nothing; `row` counts lines down."""
    drawn.legend(
        handles=list(handles),
        loc="upper left",
        bbox_to_anchor=(0.03, 0.905 - 0.045 * row),
        ncols=len(handles),
        frameon=False,
        handletextpad=0.3,
        columnspacing=1.4,
        borderaxespad=0,
    )


def label(
    axes: Axes,
    points: Sequence[tuple[float, float]],
    texts: Sequence[str],
    colours: Sequence[str],
    *,
    bold: Sequence[bool],
    obstacles: Sequence[Box] = (),
) -> None:
    """Writes a text beside each point, a thin line leading to it where there is no room beside the point.

    Args:
        axes: Their limits must be final: places are found in pixels.
        points: x and y of each, in data units.
        texts: One for each point.
        colours: One for each point.
        bold: Whether each is emphasized; those choose their places first.
        obstacles: Pixels that should stay free, the points' own markers aside.
    """
    order = sorted(range(len(points)), key=lambda index: not bold[index])
    pixels = [tuple(map(float, axes.transData.transform(points[index]))) for index in order]
    drawn = [
        axes.annotate(
            texts[index],
            points[index],
            xycoords="data",
            fontsize=10.5,
            fontweight="bold" if bold[index] else "normal",
            color=colours[index] if bold[index] else INK,
            va="bottom",
            path_effects=[withStroke(linewidth=3, foreground="white")],
            zorder=6,
        )
        for index in order
    ]
    sizes = [(box.right - box.left, box.top - box.bottom) for box in (box_of(axes, text) for text in drawn)]
    markers = marker_boxes(axes, points)
    places = place([(x, y) for x, y in pixels], sizes, _plot_box(axes), [*markers, *obstacles])
    to_data = axes.transData.inverted()
    for index, text, (x, y), found in zip(order, drawn, pixels, places, strict=True):
        left, bottom = map(float, to_data.transform((found.box.left, found.box.bottom)))
        text.set_position((left, bottom))
        if found.led:
            near = (
                min(max(x, found.box.left), found.box.right),
                min(max(y, found.box.bottom), found.box.top),
            )
            end = to_data.transform(near)
            axes.plot(*zip(points[index], end, strict=True), color="#b5bcc4", linewidth=0.8, zorder=1.5)


def marker_boxes(axes: Axes, points: Sequence[tuple[float, float]]) -> list[Box]:
    """Returns the pixels around points in data units that labels should keep free."""
    return [
        Box(x - _MARKER, y - _MARKER, x + _MARKER, y + _MARKER)
        for x, y in (map(float, axes.transData.transform(point)) for point in points)
    ]


def _plot_box(axes: Axes) -> Box:
    box = axes.get_window_extent()
    return Box(box.x0 + 4, box.y0 + 4, box.x1 - 2, box.y1 - 2)


def box_of(axes: Axes, text: Text) -> Box:
    """Returns the pixels that a text covers."""
    figure = axes.get_figure(root=True)
    assert isinstance(figure, Figure)  # noqa: S101  made by `figure`
    box = text.get_window_extent(renderer=figure.canvas.get_renderer())  # type: ignore[attr-defined]
    return Box(box.x0, box.y0, box.x1, box.y1)


@contextmanager
def style() -> Iterator[None]:
    """Draws in this project's style, whatever the user's settings are, and restores those afterwards."""
    with mpl.rc_context(), warnings.catch_warnings():
        # A name in a script that the font lacks is drawn as boxes: no reason to fail or to warn.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from font")
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)  # type: ignore[arg-type]  # its keys are literals
        yield


def figure(title: str, footer: str) -> Figure:
    """Returns an empty figure of `PIXELS` with its title at the top left and notes at the bottom."""
    made = Figure(figsize=(PIXELS[0] / _DPI, PIXELS[1] / _DPI), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(made)
    made.text(0.03, 0.935, title, fontsize=16, fontweight="bold", color="#111111", va="baseline")
    made.text(0.03, 0.018, footer, fontsize=8, color=GREY, va="bottom", linespacing=1.3)
    return made


def save(drawn: Figure, target: Path) -> None:
    """Writes a figure as PNG, whole or not at all, without a date or a version in it.

    Raises:
        OutputError: It cannot be written there.
    """
    data = io.BytesIO()
    drawn.savefig(data, format="png", dpi=_DPI, metadata={"Software": None})
    write_whole(target, data.getvalue())
