"""Rows to batches: pure, tried with made-up rows."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.documents import (
    Batch,
    Chunk,
    Copies,
    Reason,
    Reject,
    UnitRead,
    content_hash,
    count_reasons,
    join_texts,
)
from indexer.embedding.batches import BatchRule, batches
from indexer.embedding.reuse import SeenTexts
from indexer.plan import Unit, cut_units

texts = (
    st.none()
    | st.sampled_from([b"", b" \n", b"\xff\xfe", b"word", b"two words", b"x" * 50])
    | st.binary(max_size=8)
)
rows = st.lists(
    st.tuples(st.none() | st.sampled_from([b"", b"id", b"\xff"]), texts, texts), min_size=1, max_size=60
)


def _chunks(table: list[tuple[bytes | None, ...]], units: list[Unit], size: int) -> Iterator[Chunk]:
    for unit in units:
        for first in range(unit.start, unit.stop, size):
            ids, titles, bodies = zip(*table[first : min(first + size, unit.stop)], strict=True)
            yield Chunk(unit, first, ids, [titles, bodies])


@given(rows, st.integers(1, 20), st.integers(1, 7), st.integers(1, 6), st.integers(1, 80))
def test_every_row_is_in_one_batch_or_rejected(
    table: list[tuple[bytes | None, ...]], unit_rows: int, chunk: int, items: int, size: int
) -> None:
    """Each row goes to one place, batches keep their limits, and a unit ends behind its last batch."""
    units = list(cut_units([len(table)], unit_rows, None))
    rule = BatchRule(items=items, bytes=size, text_bytes=40)
    ended: list[Unit] = []
    seen: list[int] = []
    numbers: list[int] = []
    for item in batches(_chunks(table, units, chunk), rule):
        if isinstance(item, UnitRead):
            ended.append(item.unit)
            seen += [reject.row for reject in item.rejects]
            assert all(item.unit.start <= reject.row < item.unit.stop for reject in item.rejects)
            continue
        assert isinstance(item, Batch)
        assert item.unit not in ended
        assert len(item.rows) == len(item.texts) == len(item.doc_ids) <= items
        assert item.bytes == sum(map(len, item.texts))
        assert item.bytes <= size or len(item.texts) == 1
        for row, doc_id, text in zip(item.rows, item.doc_ids, item.texts, strict=True):
            assert doc_id.encode() == table[row][0]
            assert text == join_texts(table[row][1:], 40)
        seen += item.rows
        numbers.append(item.number)
    assert ended == units
    assert sorted(seen) == list(range(len(table)))
    assert numbers == list(range(len(numbers)))


def _text(cells: Any) -> bytes | None:
    text = join_texts(cells[1:], 40)
    return text if isinstance(text, bytes) else None


@given(rows, st.integers(1, 20), st.integers(1, 7))
def test_a_text_is_sent_once(table: list[Any], unit_rows: int, chunk: int) -> None:
    """Each text travels in its first row; later rows with it are copies that name an earlier row of it."""
    units = list(cut_units([len(table)], unit_rows, None))
    refused = dict.fromkeys(range(0, len(table), 5), "duplicate id: also there")
    texts = {row: text for row, cells in enumerate(table) if (text := _text(cells))}
    sent: dict[bytes, int] = {}
    found: dict[int, int] = {}
    rejected: dict[int, str] = {}
    for item in batches(_chunks(table, units, chunk), BatchRule(3, 100, 40), SeenTexts().first, refused):
        if isinstance(item, Batch):
            assert item.hashes == [content_hash(text) for text in item.texts]
            assert not sent.keys() & set(item.texts)
            sent |= dict(zip(item.texts, item.rows, strict=True))
        elif isinstance(item, Copies):
            found |= dict(zip(item.rows, item.sources, strict=True))
            assert item.hashes == [content_hash(texts[row]) for row in item.rows]
        else:
            rejected |= {reject.row: reject.reason for reject in item.rejects}
    assert set(sent) == {texts[row] for row in [*sent.values(), *found]}
    assert {row: sent[texts[row]] for row in found} == found
    assert all(source < row for row, source in found.items())
    assert sorted([*sent.values(), *found, *rejected]) == list(range(len(table)))
    for row, reason in refused.items():
        assert rejected[row] in (reason, "null id", "empty id", "id not text")


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([b"Title", b"Body"], b"Title\nBody"),
        ([b"", b"Body"], b"Body"),
        ([None, b"Body"], b"Body"),
        ([b"  ", b"Body"], b"Body"),
        ([b"Title", None], b"Title"),
        ([None, None], Reason.NULL),
        ([None, b""], Reason.EMPTY),
        ([b" \t\n", b""], Reason.EMPTY),
        (["\u00a0\u2003".encode()], Reason.EMPTY),
        ([b"\xff\xfe"], Reason.NOT_TEXT),
        ([b"fine", b"\xc3"], Reason.NOT_TEXT),
        ([b"x" * 11], Reason.TOO_LARGE),
        ([b"x" * 5, b"y" * 5], Reason.TOO_LARGE),  # the newline counts
        (["ü".encode() * 5], "ü".encode() * 5),
    ],
)
def test_texts_are_joined_or_rejected_with_a_reason(
    parts: list[bytes | None], expected: bytes | Reason
) -> None:
    """Empty parts are left out; what is left is one text of at most 10 bytes here, or a named reason."""
    assert join_texts(parts, 10) == expected


def test_ids_that_name_nothing_are_rejected() -> None:
    """Null, empty and undecodable ids are rejected by reason; a good id beside them is kept."""
    unit = Unit(0, 0, 0, 4, 0)
    chunk = Chunk(unit, 0, [None, b"", b"\xff", b"ok"], [[b"text"] * 4])
    batch, read = batches([chunk], BatchRule(10, 100, 100))
    assert isinstance(batch, Batch)
    assert batch.doc_ids == ["ok"]
    assert isinstance(read, UnitRead)
    assert [reject.reason for reject in read.rejects] == ["null id", "empty id", "id not text"]


def test_reasons_are_counted_without_detail() -> None:
    """Refusals that differ in their message alone count as one reason."""
    rejects = [Reject(0, "a", "INTERNAL: one"), Reject(1, "b", "INTERNAL: two"), Reject(2, "c", "null")]
    assert count_reasons(rejects) == {"INTERNAL": 2, "null": 1}
