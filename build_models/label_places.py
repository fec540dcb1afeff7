"""Where the labels of a plot's points go, so that no two overlap: geometry in pixels, no drawing, no I/O.

Each label tries places around its point, near ones first, then a grid over the whole plot; the first
place that covers nothing is taken, else the one that covers least.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

# Distances from a point to the nearest edge of its label, pixels: the first reads without a leader line.
_DISTANCES = (10.0, 22.0, 38.0, 58.0, 82.0)
# Directions by how natural a label reads there. Above and below go first: a line that joins points often
# leaves to the right.
_DIRECTIONS = ((1, 1), (1, -1), (1, 0), (-1, 1), (0, 1), (0, -1), (-1, 0), (-1, -1))
_GRID = 24  # places along each side of the plot that are tried last; arbitrary


@dataclass(frozen=True)
class Box:
    """A rectangle whose sides are parallel to the axes, pixels; y grows upwards."""

    left: float
    bottom: float
    right: float
    top: float

    def shared(self, other: "Box") -> float:
        """Returns the area that both cover, square pixels."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.top, other.top) - max(self.bottom, other.bottom)
        return width * height if width > 0 and height > 0 else 0.0

    def distance(self, x: float, y: float) -> float:
        """Returns how far a point lies from the rectangle; 0 inside."""
        across = max(self.left - x, x - self.right, 0.0)
        along = max(self.bottom - y, y - self.top, 0.0)
        return math.hypot(across, along)

    def holds(self, other: "Box") -> bool:
        """Returns whether the other lies inside."""
        return (
            self.left <= other.left
            and self.bottom <= other.bottom
            and other.right <= self.right
            and other.top <= self.top
        )


@dataclass(frozen=True)
class Place:
    """Where a label goes.

    Attributes:
        box: What it covers.
        led: Whether it is so far from its point that a line must lead there.
    """

    box: Box
    led: bool


def place(
    points: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    plot: Box,
    obstacles: Sequence[Box] = (),
) -> list[Place]:
    """Returns the place of each point's label, in the order of the points; earlier points choose first.

    Args:
        points: x and y of each point.
        sizes: Width and height of each label.
        plot: What labels must stay inside of, where they fit at all.
        obstacles: What labels should not cover; the points' own markers among them.
    """
    taken = list(obstacles)
    places = []
    for point, size in zip(points, sizes, strict=True):
        others = [other for other in points if other != point]
        best = _best(point, size, plot, taken, others)
        taken.append(best.box)
        places.append(best)
    return places


def _best(
    point: tuple[float, float],
    size: tuple[float, float],
    plot: Box,
    taken: Sequence[Box],
    others: Sequence[tuple[float, float]],
) -> Place:
    least, best = math.inf, None
    for candidate in _candidates(point, size, plot):
        covered = sum(candidate.box.shared(box) for box in taken)
        # What sticks out of the plot is worse than anything covered.
        if not plot.holds(candidate.box):
            covered += size[0] * size[1] * len(taken) + 1
        # A reader gives a label without a line to the nearest point.
        elif not candidate.led and _nearer(candidate.box, others, point):
            covered += 1
        if covered == 0:
            return candidate
        if covered < least:
            least, best = covered, candidate
    assert best is not None  # noqa: S101  there are always candidates
    return best


def _nearer(box: Box, others: Sequence[tuple[float, float]], point: tuple[float, float]) -> bool:
    own = box.distance(*point)
    return any(box.distance(*other) <= own for other in others)


def _candidates(point: tuple[float, float], size: tuple[float, float], plot: Box) -> Iterator[Place]:
    x, y = point
    width, height = size
    for distance in _DISTANCES:
        for right, up in _DIRECTIONS:
            # On a diagonal both offsets add up: each is shortened to keep the distance.
            step = distance / math.hypot(right, up)
            left = x + step * right + (right - 1) / 2 * width
            bottom = y + step * up + (up - 1) / 2 * height
            yield Place(Box(left, bottom, left + width, bottom + height), led=distance > _DISTANCES[1])
    corners = [
        (
            plot.left + (plot.right - plot.left - width) * column / _GRID,
            plot.bottom + (plot.top - plot.bottom - height) * row / _GRID,
        )
        for column in range(_GRID + 1)
        for row in range(_GRID + 1)
    ]
    corners.sort(key=lambda corner: math.hypot(corner[0] + width / 2 - x, corner[1] + height / 2 - y))
    for left, bottom in corners:
        yield Place(Box(left, bottom, left + width, bottom + height), led=True)
