"""Rows to batches of texts. Pure: reads chunks of rows that are handed in, knows neither files nor pools."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from types import MappingProxyType

from indexer.documents import (
    Batch,
    Chunk,
    Copies,
    Reason,
    Reject,
    UnitRead,
    content_hash,
    join_texts,
    read_id,
)
from indexer.plan import Unit

_COPIES = 1024  # rows that are handed on in one piece; arbitrary

Item = Batch | Copies | UnitRead
SourceOf = Callable[[bytes, int], int | None]  # content hash and row id to an earlier row id, or None


@dataclass(frozen=True)
class BatchRule:
    """What a batch may hold: at most `items` texts and `bytes` of them, one text at most `text_bytes`.

    A single text may be larger than `bytes`; it then travels alone.
    """

    items: int
    bytes: int
    text_bytes: int


def batches(
    chunks: Iterable[Chunk],
    rule: BatchRule,
    source_of: SourceOf = lambda _name, _row_id: None,
    refused: Mapping[int, str] = MappingProxyType({}),
) -> Iterator[Item]:
    """Yields the batches and copies of each unit in order, and behind them that the unit was read.

    Args:
        chunks: Rows; those of a unit follow each other and cover all its rows.
        rule: What a batch may hold.
        source_of: Told the content hash and the row id of each text in order; returns the row id of an
            earlier row with the same text, None for a text that is new.
        refused: Row ids of rows that are rejects whatever they hold, and why.
    """
    number = 0
    for unit, of_unit in groupby(chunks, key=attrgetter("unit")):
        cutter = _Cutter(unit, rule, number, source_of, refused)
        for chunk in of_unit:
            yield from cutter.add(chunk)
            if chunk.first_row + len(chunk.ids) == unit.stop:
                yield from cutter.finish()
        number = cutter.number


@dataclass
class _Pending:
    """The batch that is being filled."""

    rows: list[int] = field(default_factory=list)
    doc_ids: list[str] = field(default_factory=list)
    hashes: list[bytes] = field(default_factory=list)
    texts: list[bytes] = field(default_factory=list)
    bytes: int = 0


class _Cutter:
    """Makes the batches of one unit; `number` is that of the next batch."""

    def __init__(
        self, unit: Unit, rule: BatchRule, number: int, source_of: SourceOf, refused: Mapping[int, str]
    ) -> None:
        self.number = number
        self._unit, self._rule, self._source_of, self._refused = unit, rule, source_of, refused
        self._pending, self._copies, self._rejects = _Pending(), Copies(unit), list[Reject]()

    def add(self, chunk: Chunk) -> Iterator[Item]:
        """Takes rows; yields what they fill."""
        shift = self._unit.base - self._unit.start
        for index, raw_id in enumerate(chunk.ids):
            row = chunk.first_row + index
            doc_id, reason = read_id(raw_id)
            text = join_texts((column[index] for column in chunk.columns), self._rule.text_bytes)
            if chunk.unreadable:
                self._rejects.append(Reject(row, None, f"{Reason.UNREADABLE}: {chunk.unreadable}"))
            elif doc_id is None or reason is not None:
                self._rejects.append(Reject(row, None, str(reason)))
            elif (refusal := self._refused.get(row + shift)) is not None:
                self._rejects.append(Reject(row, doc_id, refusal))
            elif isinstance(text, Reason):
                self._rejects.append(Reject(row, doc_id, str(text)))
            else:
                yield from self._take(row, doc_id, text, row + shift)

    def finish(self) -> Iterator[Item]:
        """Yields what is left, and that the unit was read."""
        if self._pending.texts:
            yield self._sealed()
        if self._copies.rows:
            yield self._copies
        yield UnitRead(self._unit, self._rejects)

    def _take(self, row: int, doc_id: str, text: bytes, row_id: int) -> Iterator[Item]:
        name = content_hash(text)
        source = self._source_of(name, row_id)
        if source is not None:
            self._copies.add(row, doc_id, name, source)
            if len(self._copies.rows) >= _COPIES:
                yield self._copies
                self._copies = Copies(self._unit)
            return
        size = self._pending.bytes + len(text)
        if self._pending.texts and (len(self._pending.texts) >= self._rule.items or size > self._rule.bytes):
            yield self._sealed()
        pending = self._pending
        pending.rows.append(row)
        pending.doc_ids.append(doc_id)
        pending.hashes.append(name)
        pending.texts.append(text)
        pending.bytes += len(text)

    def _sealed(self) -> Batch:
        full, self._pending = self._pending, _Pending()
        self.number += 1
        return Batch(
            self.number - 1, self._unit, full.rows, full.doc_ids, full.hashes, full.texts, full.bytes
        )
