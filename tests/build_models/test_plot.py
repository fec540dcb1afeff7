"""Plots: what is drawn where, and that nothing but a whole PNG is ever left."""

import os
import struct
from itertools import combinations
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.image import imread

from build_models.canvas import PIXELS
from build_models.errors import OutputError
from build_models.label_places import Box, place
from build_models.plot import Outcome, Point, fences, front, pareto
from build_models.whole_file import check_place, write_whole

_PLOT = Box(0, 0, 1430, 540)
_POINTS = [
    Point("fp32", 29.1, 1.0, Outcome.PASSED, 0.998),
    Point("int8-dynamic", 19.9, 0.9968, Outcome.PASSED, 0.989),
    Point("int8-migrated", 20.4, 0.9985, Outcome.CHOSEN, 0.992),
    Point("int8-static", 17.9, 0.9821, Outcome.REFUSED, 0.971),
    Point("weight8", 105.8, 0.9998, Outcome.PASSED),
    Point("broken", 20.1, 0.41, Outcome.REFUSED),
    Point("int8-qkv", 19.8, None, Outcome.PRUNED),
]


def _draw(target: Path, points: list[Point] = _POINTS, title: str = "A model") -> bytes:
    pareto(points, target, title=title, quality_label="overlap@10", threshold=0.985, footer="a machine")
    return target.read_bytes()


def test_a_pareto_plot_is_a_png_of_a_slides_size(tmp_path: Path) -> None:
    """The file is a PNG of the promised pixels with ink in every colour that its outcomes have."""
    data = _draw(tmp_path / "pareto.png")
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    assert struct.unpack(">II", data[16:24]) == PIXELS
    image = np.asarray(imread(str(tmp_path / "pareto.png")))[..., :3]
    colours = {tuple(pixel) for pixel in (image.reshape(-1, 3) * 255).round().astype(int).tolist()}
    # Chosen, passed, refused and the gate's line.
    assert {(0, 114, 178), (0, 158, 115), (213, 94, 0), (179, 38, 30)} <= colours


def test_the_same_points_give_the_same_bytes(tmp_path: Path) -> None:
    """No date, no order of the points and no setting of the user changes a byte."""
    first = _draw(tmp_path / "first.png")
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "black"}):
        assert _draw(tmp_path / "second.png", _POINTS[::-1]) == first
        assert mpl.rcParams["font.size"] == 30, "the user's settings are left as they were"
    assert _draw(tmp_path / "third.png", _POINTS[1:]) != first


@pytest.mark.parametrize(
    "points",
    [[], _POINTS[6:], _POINTS[:1], [_POINTS[0]] * 12, [Point("free", 0.0, 0.0, Outcome.PASSED)]],
    ids=["none", "unmeasured", "one", "twelve at one place", "zeros"],
)
def test_few_or_equal_points_are_drawn_too(points: list[Point], tmp_path: Path) -> None:
    """A build that tried one recipe, or none to the end, has its plot like any other."""
    assert _draw(tmp_path / "few.png", points).startswith(b"\x89PNG")


def test_a_name_is_text_whatever_stands_in_it(tmp_path: Path) -> None:
    """Dollar signs are no formula, and a script that the font lacks is no error; a long name is cut."""
    names = ["$x^{", "東京", "long " * 40]
    points = [Point(name, 10.0 + n, 0.9 + n / 100, Outcome.PASSED) for n, name in enumerate(names)]
    assert _draw(tmp_path / "names.png", points, title="cost: 5$ or 6$").startswith(b"\x89PNG")


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=12))
def test_the_front_is_what_nothing_beats(pairs: list[tuple[int, int]]) -> None:
    """A pair is on the front exactly if no other is as fast and as good and better in one of them."""
    wanted = {
        (time, quality)
        for time, quality in pairs
        if not any(t <= time and q >= quality and (t, q) != (time, quality) for t, q in pairs)
    }
    assert front([(float(t), float(q)) for t, q in pairs]) == sorted(wanted)


@given(st.lists(st.integers(0, 1000), min_size=5, max_size=20))
def test_fences_are_tukeys(values: list[int]) -> None:
    """Fences lie a multiple of the interquartile range outside the quartiles, as numpy has them."""
    first, third = np.percentile(values, [25, 75])
    low, high = fences(values, 1.5)
    assert low == pytest.approx(first - 1.5 * (third - first))
    assert high == pytest.approx(third + 1.5 * (third - first))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_labels_never_overlap(data: st.DataObject) -> None:
    """Ten labels of real sizes stay inside the plot and cover neither each other nor a marker."""
    count = data.draw(st.integers(1, 10))
    corner = st.tuples(st.integers(0, 1430), st.integers(0, 540))
    points = data.draw(st.lists(corner, min_size=count, max_size=count))
    widths = data.draw(st.lists(st.integers(30, 330), min_size=count, max_size=count))
    markers = [Box(x - 9, y - 9, x + 9, y + 9) for x, y in points]
    boxes = [found.box for found in place(points, [(width, 22) for width in widths], _PLOT, markers)]
    assert all(_PLOT.holds(box) for box in boxes)
    assert all(one.shared(other) == 0 for one, other in combinations([*boxes], 2))
    assert all(box.shared(marker) == 0 for box in boxes for marker in markers)


def test_a_label_without_a_line_is_nearest_to_its_own_point() -> None:
    """Of two points side by side, neither label lies where a reader would give it to the other."""
    points = [(500.0, 200.0), (520.0, 200.0)]
    for point, other, found in zip(points, points[::-1], place(points, [(90, 22)] * 2, _PLOT), strict=True):
        assert found.led or found.box.distance(*point) < found.box.distance(*other)


def test_labels_that_fit_nowhere_are_still_placed() -> None:
    """A label wider than the plot gets a place: some overlap is better than none of the names."""
    (found,) = place([(5, 5)], [(100, 20)], Box(0, 0, 50, 50))
    assert found.box.right - found.box.left == 100


@pytest.mark.parametrize("place_of", ["missing/plot.png", "."])
def test_a_place_that_cannot_be_written_is_refused(place_of: str, tmp_path: Path) -> None:
    """A missing folder, or a folder in the file's place, is one line that names it."""
    with pytest.raises(OutputError, match="give"):
        check_place(tmp_path / place_of)
    with pytest.raises(OutputError):
        _draw(tmp_path / place_of)
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk is full, the old file stays as it was and nothing half-written lies beside it."""
    target = tmp_path / "plot.png"
    write_whole(target, b"old")
    assert target.stat().st_mode & 0o777 == 0o666 & ~_umask()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        write_whole(target, b"new")
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
