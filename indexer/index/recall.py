"""What a measured search setting is worth, and which one to take. Pure.

A setting is FAISS's search parameters by name. Cost is the time of one query on one core.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from indexer.config import Wishes
from indexer.index.ground_truth import Truth

Setting = Mapping[str, int]


@dataclass(frozen=True)
class Point:
    """One setting as measured.

    Attributes:
        setting: Search parameters by FAISS's names; none for exact search.
        recall: Share of the true neighbours that were found, 0 to 1.
        queries_per_second: One query after the other.
        p50_ms: Half of the queries ended within this.
        p99_ms: 99 of 100 ended within this.
    """

    setting: Setting
    recall: float
    queries_per_second: float
    p50_ms: float
    p99_ms: float

    @property
    def name(self) -> str:
        """The setting in words: `nprobe 16`."""
        return ", ".join(f"{name} {value:,}" for name, value in self.setting.items()) or "exact"


@dataclass(frozen=True)
class Pick:
    """The setting to use: the cheapest that meets all wishes, or the nearest to them.

    Attributes:
        point: The setting.
        unmet: What is wished and not met, and what could be, in words; "" when all is met.
    """

    point: Point
    unmet: str


def recall_of(exact: NDArray[np.float32], truth: Truth) -> float:
    """Returns the recall of an answer, tolerant of ties.

    A hit counts when its exact score is not below the k-th exact one by more than rounding: among documents
    of equal score any is right. Where an index holds fewer than k vectors, all of them are wanted.

    Args:
        exact: Exact scores of the hits, float32 `[queries, hits]`; −inf for none.
        truth: The exact answers, `[queries, k]`.
    """
    there = np.isfinite(truth.scores)
    wanted = there.sum(axis=1)
    if not wanted.sum():
        return 1.0
    last = np.where(there, truth.scores, np.inf).min(axis=1) - truth.tolerance
    found = np.minimum((exact >= last[:, None]).sum(axis=1), wanted)
    return float(found.sum() / wanted.sum())


def ladder(least: int, most: int) -> Iterator[int]:
    """Yields values from `least` to `most`, each about √2 of the one before (1, 2, 3, 4, 6, 8, 12)."""
    value = least
    while value < most:
        yield value
        value = _next(value)
    yield most


def _next(value: int) -> int:
    power = 1 << (value.bit_length() - 1)  # largest power of two that is not above the value
    return 3 * power // 2 if value < 3 * power // 2 else 2 * power


def is_level(recalls: Sequence[float], gain: float = 0.0005, rungs: int = 2) -> bool:
    """Returns whether a rising series is at its end: all was found, or some rungs brought nearly nothing."""
    if recalls and recalls[-1] >= 1:
        return True
    return len(recalls) > 2 * rungs and recalls[-1] - recalls[-1 - rungs] < gain and recalls[-1] > 0


def pareto(points: Sequence[Point]) -> list[Point]:
    """Returns the points that no other beats in both recall and speed, quickest first."""
    kept: list[Point] = []
    for point in sorted(points, key=lambda point: (-point.queries_per_second, -point.recall)):
        if not kept or point.recall > kept[-1].recall:
            kept.append(point)
    return kept


def pick(points: Sequence[Point], wishes: Wishes, *, by_time: bool = True) -> Pick:
    """Returns the cheapest point that meets the wishes, or the nearest.

    Args:
        points: As measured, at least one; in the order of effort.
        wishes: Least recall, and most milliseconds of 99 of 100 queries. With a time alone, the highest
            recall within it; with neither, the highest recall.
        by_time: Whether the cheapest is the one with most queries/s; else the first, which depends on no
            clock.
    """
    target, limit = wishes.target_recall, wishes.max_query_ms
    in_time = [point for point in points if limit is None or point.p99_ms <= limit]
    enough = [point for point in points if target is not None and point.recall >= target]
    both = [point for point in enough if point in in_time]
    most = max(points, key=lambda point: (point.recall, point.queries_per_second))
    if both:
        return Pick(max(both, key=lambda point: point.queries_per_second) if by_time else both[0], "")
    if in_time:
        best = max(in_time, key=lambda point: (point.recall, point.queries_per_second))
        if target is None:
            return Pick(best, "")
        within = "" if limit is None else f" within {limit:g} ms"
        more = f"; {_said(enough[0])} would take {enough[0].p99_ms:.3g} ms" if enough else ""
        return Pick(best, f"recall {target:g}{within} is not reached: the nearest is {_said(best)}{more}")
    quickest = min(points, key=lambda point: point.p99_ms)
    return Pick(
        enough[0] if enough else quickest,
        f"{limit:g} ms is not reached: the quickest is {_said(quickest)} at {quickest.p99_ms:.3g} ms"
        f" (the most is {_said(most)} at {most.p99_ms:.3g} ms)",
    )


def _said(point: Point) -> str:
    return f"recall {point.recall:.4f} with {point.name}"
