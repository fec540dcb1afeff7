"""What `recall` prints and writes: the table of settings, and the same as JSON. Pure."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from indexer.index.meta import Meta
from indexer.index.recall import Pick, pareto
from indexer.index.tuning import SEED, Evaluation

_ROWS = 24  # of the table; of more settings only those that no other beats are shown. Arbitrary
_COLUMNS = ("setting", "recall", "queries/s", "p50 ms", "p99 ms")


def table_lines(meta: Meta, evaluation: Evaluation) -> Iterator[str]:
    """Yields lines for people: what was measured, and a row for each setting."""
    asked = "held-out vectors of it" if evaluation.held_out else "queries"
    dead = f"; {meta.vectors - meta.count:,} dead ones are left out" if meta.vectors > meta.count else ""
    shards = f" in {len(meta.shards)} shards" if len(meta.shards) > 1 else ""
    yield f"index    {meta.key}, {meta.count:,} vectors of {meta.dim} values{shards}{dead}"
    yield (
        f"measured {evaluation.queries:,} {asked}, one after the other on one core, "
        f"recall@{evaluation.k} against exact search"
    )
    front = pareto(evaluation.points)
    in_use = [point for point in evaluation.points if dict(point.setting) == dict(meta.search)]
    points = [point for point in evaluation.points if point in front or point in in_use]
    if len(evaluation.points) <= _ROWS:
        points = list(evaluation.points)
    rows = [_COLUMNS] + [
        (
            point.name,
            f"{point.recall:.4f}",
            f"{point.queries_per_second:,.0f}",
            f"{point.p50_ms:.3f}",
            f"{point.p99_ms:.3f}",
        )
        for point in points
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for at, (name, *figures) in enumerate(rows):
        cells = [name.ljust(widths[0]), *(map(str.rjust, figures, widths[1:]))]
        beaten = at > 0 and points[at - 1] not in front
        used = at > 0 and points[at - 1] in in_use
        notes = [word for word, said in (("beaten by another", beaten), ("in use", used)) if said]
        yield "  ".join([*cells, ", ".join(notes)]).rstrip()
    if left_out := len(evaluation.points) - len(points):
        yield f"{left_out} more settings were measured, each beaten by one of these; --json has them"


def pick_line(pick: Pick, *, saved: bool) -> str:
    """Returns the line that names the setting which was picked."""
    point = pick.point
    said = "stored: searches use it" if saved else "not stored; --save does"
    return f"picked   {point.name}: recall {point.recall:.4f}, {point.p99_ms:.3g} ms at p99 ({said})"


def as_json(meta: Meta, generation: str, evaluation: Evaluation, pick: Pick | None) -> dict[str, Any]:
    """Returns everything measured, for machines; times in milliseconds."""
    front = pareto(evaluation.points)
    return {
        "generation": generation,
        "key": meta.key,
        "count": meta.count,
        "dim": meta.dim,
        "fingerprint": meta.fingerprint,
        "bytes": meta.bytes,
        "in_use": dict(meta.search),
        "k": evaluation.k,
        "queries": evaluation.queries,
        "held_out": evaluation.held_out,
        "seed": SEED if evaluation.held_out else None,
        "points": [asdict(point) | {"pareto": point in front} for point in evaluation.points],
        "picked": None if pick is None else dict(pick.point.setting),
        "unmet": "" if pick is None else pick.unmet,
    }
