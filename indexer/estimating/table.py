"""What an estimate says: lines for people, and JSON."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from indexer.estimating.estimate import SHARES, Estimate
from indexer.estimating.forecast import Machines
from indexer.estimating.rates import Rate
from indexer.index.machine import usable_memory
from indexer.index.memory_rule import as_size

SCHEMA_VERSION = 1
_QUERY_TOKENS = 16  # of a query, for the cost of embedding it; arbitrary


def lines(found: Estimate) -> Iterator[str]:
    """Yields the lines for people: what was measured, what was computed, and how far to believe it."""
    yield "measured"
    yield from (f"  {line}" for line in _measured(found))
    yield f"computed for {found.volume.documents:,} documents like these"
    yield from (f"  {line}" for line in _computed(found))
    yield from _machine_lines(found)
    yield from _wish_lines(found)
    yield from (f"note: {line}" for line in notes(found))


def _measured(found: Estimate) -> Iterator[str]:
    seen, sample, fast = found.seen, found.sample, found.steady
    model = next(iter(found.pools.values())).model
    share = 100 * len(sample.rows) / sample.total
    yield (
        f"pool       {found.observation.processes} processes at {', '.join(found.pools)}, "
        f"model {model.label()}; this machine: {found.cpu}"
    )
    yield (
        f"sample     {len(sample.rows):,} of {sample.total:,} rows ({share:.3g} %) of {sample.files:,} of "
        f"{sample.of_files:,} files, in random order; {seen.documents:,} embedded"
    )
    yield f"speed      {_interval(fast.documents)} documents/s, {_interval(fast.tokens)} tokens/s"
    yield f"           in {fast.slices} slices of {fast.seconds:.1f} s, warm-up left out (90 % interval)"
    quantiles, mean = found.tokens
    named = ", ".join(f"p{100 * s:g} {value:.0f}" for s, value in zip(SHARES, quantiles, strict=True))
    yield f"tokens     mean {mean:.1f}, {named}; {100 * seen.truncated / seen.documents:.2g} % cut at the end"
    text = seen.text_bytes / max(1, sum(answer.documents for answer in seen.answers))
    yield f"text       {text:,.0f} bytes a document"
    yield f"rejects    {100 * found.observation.rejected:.2g} % of the rows"
    commit = sorted(seen.commit_seconds)
    took = f"; a unit is on disk in {1e3 * commit[len(commit) // 2]:.0f} ms" if commit else ""
    yield f"disk       {found.observation.sizes.vector:,.1f} bytes a vector{took}"
    each = 1e6 * found.observation.driver_seconds
    yield f"run        {each:,.0f} µs of CPU time a document, beside the pool"


def _computed(found: Estimate) -> Iterator[str]:
    much, index = found.volume, found.index
    yield f"vectors    {much.vectors:,} in {much.units:,} units; {much.rejects:,} rejects"
    yield (
        f"disk       {as_size(much.bytes)} in {much.files:,} files: units {as_size(much.unit_bytes)}, "
        f"receipts {as_size(much.receipt_bytes)}, plan {as_size(much.plan_bytes)}, rejects "
        f"{as_size(much.reject_bytes)}; "
        f"{as_size(much.slack_bytes)} more in blocks of 4 KiB"
    )
    yield f"memory     {as_size(index.run_bytes)} for each run that embeds"
    yield f"index      {index.reason}"
    if index.bytes is not None:
        yield (
            f"           file {as_size(index.bytes)}; learns from {index.training or 0:,} vectors; building "
            f"takes up to {as_size(index.build_bytes or 0)} in one piece and {_duration(index.seconds)} on "
            f"{found.cores_each} cores (estimated)"
        )


def _machine_lines(found: Estimate) -> Iterator[str]:
    price = found.question.core_hour_price
    head = f"{'machines':>8} {'cores':>6} {'documents/s':>12} {'embedding':>12} {'in all':>12}  90 % interval"
    yield head + ("          price" if price is not None else "")
    for one in found.machines:
        mean, low, high = one.total
        line = (
            f"{one.machines:>8,} {one.cores:>6,} {one.documents.mean:>12,.1f} {_duration(one.embed[0]):>12} "
            f"{_duration(mean):>12}  {_duration(low)} to {_duration(high)}"
        )
        cost = f"  {one.core_hours * price:,.2f}" if price is not None else ""
        yield line + cost


def _wish_lines(found: Estimate) -> Iterator[str]:
    hours, qps = found.question.within_hours, found.question.queries_per_second
    if hours is not None and found.needed:
        yield (
            f"within     {hours:g} hours: {found.needed:,} machines of {found.cores_each} cores "
            f"({found.needed * found.cores_each:,} cores)"
        )
    elif hours is not None:
        yield (
            f"within     {hours:g} hours: no number of machines is enough, building the FAISS index alone "
            f"takes {_duration(found.index.seconds)} on one of {found.cores_each} cores"
        )
    if qps is not None:
        cores = search_cores(found, qps)
        said = "cannot be told for this index key" if cores is None else f"{cores:.2g} cores (estimated)"
        yield f"searching  {qps:g} queries/s: {said}"


def search_cores(found: Estimate, queries_per_second: float) -> float | None:
    """Returns the cores that embed queries and search for them; None for a key without a formula."""
    if found.index.query_ms is None:
        return None
    embed = _QUERY_TOKENS * found.observation.processes / found.steady.tokens.mean
    return queries_per_second * (embed + found.index.query_ms / 1000)


def notes(found: Estimate) -> Iterator[str]:
    """Yields what a reader must know to believe the figures neither too much nor too little."""
    question, seen = found.question, found.seen
    if seen.complete:
        yield (
            f"all {len(found.sample.rows):,} rows were embedded before {question.seconds:g} s were over; "
            "figures of short measurements vary more than the interval says"
        )
    if found.sample.files < found.sample.of_files:
        left = found.sample.of_files - found.sample.files
        yield f"{left:,} files are not in the sample: they are many, slow or large"
    yield "texts that stand twice are embedded once by a run; the estimate counts them each time"
    if any(one.drivers > 1 for one in found.machines):
        most = 1 / found.observation.driver_seconds
        yield (
            f"one run feeds at most some {most:,.0f} documents/s on its core: start the same command on "
            f"several machines (of the largest number above: {max(one.drivers for one in found.machines):,})"
        )
    if found.index.bytes is None:
        yield f"size and time of index {found.index.key} are not known by formula and count as nothing"
    elif found.index.build_bytes and found.index.build_bytes > usable_memory() // 2:
        yield (
            f"building takes {as_size(found.index.build_bytes)} in one piece, this machine would give it "
            f"{as_size(usable_memory() // 2)}: here it is built in pieces or shards (--max-build-memory)"
        )
    if max(one.machines for one in found.machines) > 1:
        yield "more machines count as many pools like this one; network and shared disk are not measured"


def as_json(found: Estimate) -> dict[str, Any]:
    """Returns an estimate as JSON has it: seconds, bytes, documents."""
    seen, sample = found.seen, found.sample
    quantiles, mean = found.tokens
    model = next(iter(found.pools.values())).model
    qps = found.question.queries_per_second
    return {
        "schema_version": SCHEMA_VERSION,
        "measured": {
            "targets": list(found.pools),
            "processes": found.observation.processes,
            "model": {"name": model.name, "fingerprint": model.fingerprint, "dim": model.dim},
            "cpu": found.cpu,
            "sample_rows": len(sample.rows),
            "rows": sample.total,
            "sample_files": sample.files,
            "files": sample.of_files,
            "embedded": seen.documents,
            "complete": seen.complete,
            "seconds": found.steady.seconds,
            "slices": found.steady.slices,
            "documents_per_second": asdict(found.steady.documents),
            "tokens_per_second": asdict(found.steady.tokens),
            "tokens": {"mean": mean, **{f"p{100 * s:g}": v for s, v in zip(SHARES, quantiles, strict=True)}},
            "vectors_per_document": found.observation.vectors_each,
            "truncated_share": seen.truncated / seen.documents,
            "rejected_share": found.observation.rejected,
            "bytes": asdict(found.observation.sizes),
            "driver_cpu_seconds_per_document": found.observation.driver_seconds,
        },
        "volume": {**asdict(found.volume), "bytes": found.volume.bytes},
        "index": asdict(found.index),
        "machines": [_machine_json(found, one) for one in found.machines],
        "machines_needed": found.needed,
        "search_cores": None if qps is None else search_cores(found, qps),
        "notes": list(notes(found)),
    }


def _machine_json(found: Estimate, one: Machines) -> dict[str, Any]:
    mean, low, high = one.total
    price = found.question.core_hour_price
    return {
        "machines": one.machines,
        "cores": one.cores,
        "documents_per_second": asdict(one.documents),
        "embed_seconds": one.embed[0],
        "index_seconds": one.alone,
        "seconds": {"mean": mean, "low": low, "high": high},
        "drivers": one.drivers,
        "core_hours": one.core_hours,
        "price": None if price is None else price * one.core_hours,
    }


def _interval(rate: Rate) -> str:
    return f"{rate.mean:,.1f} ({rate.low:,.1f} to {rate.high:,.1f})"


def _duration(seconds: float) -> str:
    """Returns a time in the unit that reads best."""
    for size, name in ((172_800, "days"), (7_200, "h"), (120, "min")):
        if seconds >= size:
            return f"{seconds / {'days': 86_400, 'h': 3_600, 'min': 60}[name]:,.1f} {name}"
    return f"{seconds:.1f} s"
