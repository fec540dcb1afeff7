"""What the command line prints and reads: summaries, hits, files of queries."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from indexer.errors import ConfigError, InputError
from indexer.operations.pipeline import Summary
from indexer.operations.run_report import reject_reasons
from indexer.search.hits import Hit
from indexer.search.values import as_json

_QUERIES_AT_ONCE = 32  # printed together; arbitrary
_SHOWN = 40  # characters of a column's value for people; arbitrary, JSON has all


def summary_lines(output: Path, summary: Summary) -> Iterator[str]:
    """Yields the lines that close a run."""
    tokens = sum(receipt.tokens for receipt in summary.receipts)
    cut = sum(receipt.truncated for receipt in summary.receipts)
    reasons = reject_reasons(summary)
    if not summary.embedded:
        yield f"{output} is complete: nothing was left to embed"
    yield f"documents  {summary.documents:,} embedded ({tokens:,} tokens; {cut:,} cut at the end)"
    if reasons:
        total = sum(reasons.values())
        named = ", ".join(f"{reason} {count:,}" for reason, count in sorted(reasons.items()))
        yield f"rejects    {total:,} ({named}); see {summary.layout.rejects}"
    if summary.skipped:
        yield f"left out   {len(summary.skipped):,} inputs that cannot be read; the next run tries them again"
    if summary.embedded:
        rate = summary.embedded / summary.seconds["embed"]
        copied = f"; {summary.reused:,} have a text that was embedded before" if summary.reused else ""
        yield f"this run   {summary.embedded:,} documents, {rate:.1f} documents/s{copied}"
    yield "seconds    " + ", ".join(f"{name} {seconds:.1f}" for name, seconds in summary.seconds.items())
    yield f"vectors    {summary.layout.units}"
    meta = summary.generation.meta
    dead = f"; {meta.dead:,} rows were replaced or deleted" if meta.dead else ""
    folder = summary.layout.generations / summary.generation.name
    yield f"index      {folder} ({meta.key}, {meta.count:,} vectors, {meta.bytes:,} bytes{dead})"


def hits_as_text(query: str, hits: Sequence[Hit], *, with_query: bool) -> str:
    """Returns lines of rank, score and document id, under their query where there are several.

    Passages and columns follow, each column cut to `_SHOWN` characters.
    """
    lines = [_line(hit) for hit in hits] or ["      no documents"]
    return "\n".join([f"query: {query}", *lines] if with_query else lines)


def _line(hit: Hit) -> str:
    parts = [f"{hit.rank:4d}", f"{hit.score:.4f}", hit.doc_id]
    if hit.passage is not None:
        parts.append(f"[{hit.passage.start}:{hit.passage.stop}]")
    return "  ".join([*parts, *(f"{name}={_short(value)}" for name, value in hit.columns.items())])


def _short(value: object) -> str:
    text = " ".join((value if isinstance(value, str) else as_json(value)).split())
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def query_lines(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yields queries in pieces, so that the first hits show before the last query is embedded."""
    for start in range(0, len(texts), _QUERIES_AT_ONCE):
        yield texts[start : start + _QUERIES_AT_ONCE]


def read_queries(path: Path) -> list[str]:
    """Reads a file of queries: one a line, empty lines left out; `.jsonl`: the `text` of each object.

    Raises:
        InputError: The file cannot be read, or a line is no object with a text.
        ConfigError: It holds no query.
    """
    try:
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read queries from {path}: {error}; give a UTF-8 text file") from error
    if not lines:
        raise ConfigError(f"{path} holds no query; write one a line")
    return (
        [_text(line, path, number) for number, line in enumerate(lines, 1)]
        if path.suffix == ".jsonl"
        else lines
    )


def _text(line: str, path: Path, number: int) -> str:
    try:
        value = json.loads(line)["text"]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} query {number} is no JSON object with 'text' ({error!r}); mend the line"
        ) from error
    if not isinstance(value, str):
        raise InputError(f"{path} query {number}: 'text' is {type(value).__name__}, wanted a string")
    return value
