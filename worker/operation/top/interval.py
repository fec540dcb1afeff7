"""What happened between two snapshots of a server: rates and percentiles. Pure: no clock, no I/O."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from worker.operation.top.snapshot import ClassSnapshot, Distribution, Snapshot

OK = "ok"
MEDIAN, TAIL = 0.5, 0.99


@dataclass(frozen=True)
class Quantile:
    """A quantile of a histogram, in seconds.

    Attributes:
        seconds: Interpolated within its bucket, as if values lay evenly there.
        beyond: Whether it lies in the bucket without an upper bound: it is above `seconds` then.
    """

    seconds: float
    beyond: bool = False


@dataclass(frozen=True)
class ClassInterval:
    """What happened to queries or to documents.

    Attributes:
        texts: Embedded per second.
        tokens: Embedded per second.
        others: Texts that ended otherwise, by outcome; only those that did.
        queue: Waits that ended.
        run: Runs that ended.
    """

    texts: float
    tokens: float
    others: Mapping[str, int]
    queue: Distribution
    run: Distribution


@dataclass(frozen=True)
class Interval:
    """What happened on a server, or on several.

    Attributes:
        seconds: How long it was, on the server's own clock.
        queries: Of the query class.
        documents: Of the bulk class.
        runs: Runs per second, by the id of the process; of one that is new nothing is known.
    """

    seconds: float
    queries: ClassInterval
    documents: ClassInterval
    runs: Mapping[int, float]


def between(before: Snapshot, after: Snapshot) -> Interval | None:
    """Returns what happened between two snapshots; None where the server started anew, or no time passed."""
    seconds = after.uptime - before.uptime
    if seconds <= 0 or _shrank(before, after):
        return None
    runs = {one.pid: one.runs for one in before.processes if one.pid}
    rates = {
        one.pid: max(0, one.runs - runs[one.pid]) / seconds for one in after.processes if one.pid in runs
    }
    return Interval(
        seconds,
        _between(before.queries, after.queries, seconds),
        _between(before.documents, after.documents, seconds),
        rates,
    )


def _shrank(before: Snapshot, after: Snapshot) -> bool:
    pairs = ((before.queries, after.queries), (before.documents, after.documents))
    return any(
        new.tokens < old.tokens
        or old.queue.bounds != new.queue.bounds
        or any(b < a for a, b in zip(old.queue.counts, new.queue.counts, strict=True))
        or any(new.texts.get(name, 0) < count for name, count in old.texts.items())
        for old, new in pairs
    )


def _between(before: ClassSnapshot, after: ClassSnapshot, seconds: float) -> ClassInterval:
    grown = {name: count - before.texts.get(name, 0) for name, count in after.texts.items()}
    return ClassInterval(
        texts=grown.get(OK, 0) / seconds,
        tokens=(after.tokens - before.tokens) / seconds,
        others={name: count for name, count in grown.items() if count and name != OK},
        queue=_difference(before.queue, after.queue),
        run=_difference(before.run, after.run),
    )


def _difference(before: Distribution, after: Distribution) -> Distribution:
    counts = (max(0, new - old) for old, new in zip(before.counts, after.counts, strict=True))
    return Distribution(after.bounds, tuple(counts))


def total(intervals: Sequence[Interval]) -> Interval:
    """Returns what happened on several servers together; runs by process are left out."""
    return Interval(
        seconds=max((one.seconds for one in intervals), default=0.0),
        queries=_total([one.queries for one in intervals]),
        documents=_total([one.documents for one in intervals]),
        runs={},
    )


def _total(classes: Sequence[ClassInterval]) -> ClassInterval:
    others: Counter[str] = Counter()
    for one in classes:
        others.update(one.others)
    return ClassInterval(
        texts=sum(one.texts for one in classes),
        tokens=sum(one.tokens for one in classes),
        others=dict(others),
        queue=_sum([one.queue for one in classes]),
        run=_sum([one.run for one in classes]),
    )


def _sum(parts: Sequence[Distribution]) -> Distribution:
    """Adds histograms; those of other bounds, of another release, say, tell nothing together."""
    if len({part.bounds for part in parts}) != 1:
        return Distribution()
    return Distribution(parts[0].bounds, tuple(map(sum, zip(*(part.counts for part in parts), strict=True))))


def quantile(distribution: Distribution, q: float) -> Quantile | None:
    """Returns the smallest value that at least the share `q` of the values do not pass; None for no values.

    Known to its bucket, and interpolated inside it as Prometheus's `histogram_quantile` does.

    Args:
        distribution: The values.
        q: Above 0, at most 1.
    """
    counts, bounds = distribution.counts, distribution.bounds
    wanted = q * sum(counts)
    if not wanted:
        return None
    up_to = list(accumulate(counts))
    bucket = next(index for index, count in enumerate(up_to) if count >= wanted)
    lower = bounds[bucket - 1] if bucket else 0.0
    if bucket == len(bounds):
        return Quantile(lower, beyond=True)
    share = (wanted - (up_to[bucket] - counts[bucket])) / counts[bucket]
    return Quantile(lower + share * (bounds[bucket] - lower))
