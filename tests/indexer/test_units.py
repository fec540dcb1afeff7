"""Answers to unit files to receipts."""

import dataclasses
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.client.answers import Answer, Failure
from indexer.client.status import Status
from indexer.config import PlanConfig, VectorType
from indexer.documents import Batch, Reject, content_hash
from indexer.embedding.commit import write_unit
from indexer.embedding.unit import UnitBuffer
from indexer.errors import PlanError, StoreError
from indexer.plan import InputFile, Model, Plan, Unit, make_plan
from indexer.store import ledger
from indexer.store.layout import Layout
from indexer.store.unit_documents import read_documents
from indexer.store.unit_file import (
    Chunks,
    UnitTable,
    read_rejects,
    read_unit,
    read_unit_pieces,
    unit_bytes,
)

MODEL = Model(fingerprint="f" * 64, name="four", dim=4, normalized=False)


def _plan(rows: int, kind: VectorType = VectorType.FLOAT32) -> Plan:
    return make_plan(
        [InputFile("/data/a.parquet", 1, 1, (10, rows))],
        PlanConfig(unit_rows=max(10, rows), vector_type=kind),
        MODEL,
    )


def _answer(batch: Batch, vectors: Any, failed: dict[int, str]) -> Answer:
    good = np.array([at for at in range(len(batch.rows)) if at not in failed], dtype=np.int64)
    return Answer(
        number=batch.number,
        fingerprint=MODEL.fingerprint,
        good=good,
        vectors=vectors[[batch.rows[at] for at in good]] if good.size else np.empty((0, 0), np.float32),
        token_counts=np.array([batch.rows[at] for at in good], dtype=np.int32),
        truncated=np.array([batch.rows[at] % 2 == 0 for at in good], dtype=np.bool_),
        windows=np.ones(good.size, dtype=np.int32),
        failures=tuple(Failure(at, Status.INTERNAL, words) for at, words in failed.items()),
    )


@given(st.data(), st.sampled_from(list(VectorType)))
def test_a_unit_holds_each_row_whatever_the_order_of_answers(data: st.DataObject, kind: VectorType) -> None:
    """Answers in any order, with refusals and unread rows among them, give the same table and rejects."""
    unit = Unit(1, 0, 10, data.draw(st.integers(1, 30)), 10)
    rows = list(range(unit.start, unit.stop))
    kept = [row for row in rows if data.draw(st.integers(0, 4))]
    refused = {row for row in kept if not data.draw(st.integers(0, 5))}
    values = np.random.default_rng(3).standard_normal((unit.stop, 4)).astype(kind.value)
    cuts = sorted(data.draw(st.sets(st.integers(1, max(1, len(kept) - 1))))) if kept else []
    parts = [part.tolist() for part in np.split(np.array(kept, dtype=np.int64), cuts) if len(part)]
    batches = [
        Batch(
            n, unit, part, [f"d{row}" for row in part], [b"h" * 16] * len(part), [b"t"] * len(part), len(part)
        )
        for n, part in enumerate(parts)
    ]
    buffer = UnitBuffer(unit, 4, kind)
    for _ in batches:
        buffer.expect()
    buffer.finish_reading([Reject(row, None, "null id") for row in rows if row not in kept])
    for batch in data.draw(st.permutations(batches)):
        assert not buffer.complete
        failed = {at: "no" for at, row in enumerate(batch.rows) if row in refused}
        buffer.add(batch, _answer(batch, values, failed))
    assert buffer.complete
    table = buffer.table()
    good = [row for row in kept if row not in refused]
    assert table.rows.tolist() == good
    assert table.doc_ids == [f"d{row}" for row in good]
    assert table.vectors.dtype == kind.value
    assert np.array_equal(table.vectors, values[good].reshape(-1, 4))
    assert table.token_counts.tolist() == good
    assert table.truncated.tolist() == [row % 2 == 0 for row in good]
    assert [reject.row for reject in buffer.rejects()] == sorted(set(rows) - set(good))


def _hashes(rows: list[int]) -> list[bytes]:
    return [content_hash(f"text {row}".encode()) for row in rows]


def _filled(plan: Plan, unit: Unit, bad: set[int]) -> UnitBuffer:
    rows = list(range(unit.start, unit.stop))
    values = np.arange(unit.stop * 4, dtype=np.float32).reshape(-1, 4)
    buffer = UnitBuffer(unit, 4, plan.config.vector_type)
    batch = Batch(0, unit, rows, [f"d{row}" for row in rows], _hashes(rows), [b"t"] * len(rows), len(rows))
    buffer.expect()
    buffer.add(batch, _answer(batch, values, {at: "no" for at, row in enumerate(rows) if row in bad}))
    buffer.finish_reading([])
    return buffer


@pytest.mark.parametrize("kind", list(VectorType))
def test_a_committed_unit_reads_back(tmp_path: Path, kind: VectorType) -> None:
    """Vectors come back bit for bit in their type, and any Parquet reader can read the file."""
    plan, layout = _plan(5, kind), Layout(tmp_path)
    layout.units.mkdir()
    layout.rejects.mkdir()
    unit = plan.units[1]
    receipt = write_unit(layout, plan, _filled(plan, unit, {11}))
    assert (receipt.vectors, receipt.rejects, receipt.tokens) == (4, {"INTERNAL": 1}, 10 + 12 + 13 + 14)
    stored = read_unit(layout.unit(1), doc_ids=True, vectors=True, hashes=True)
    assert [row.tobytes() for row in stored.hashes] == _hashes([10, 12, 13, 14])
    assert stored.rows.tolist() == [10, 12, 13, 14]
    assert stored.doc_ids == ["d10", "d12", "d13", "d14"]
    assert stored.vectors.dtype == kind.value
    assert stored.vectors.tolist() == [[row * 4.0 + at for at in range(4)] for row in stored.rows]
    assert stored.fingerprint == MODEL.fingerprint
    assert read_rejects(layout.unit_rejects(1)) == [Reject(11, "d11", "INTERNAL: no")]
    schema = pq.read_schema(layout.unit(1))
    assert str(schema.field("embedding").type).startswith("fixed_size_list<element:")
    assert schema.names == ["row", "doc_id", "content_hash", "embedding", "token_count", "truncated"]


@pytest.fixture(params=[VectorType.FLOAT32, VectorType.FLOAT16])
def unit_file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A unit's file with chunks, in several row groups, as a commit leaves it."""
    unit, rows = Unit(0, 0, 0, 3, 0), np.array([0, 1, 1, 2], dtype=np.int64)
    ints = np.arange(4, dtype=np.int32)
    table = UnitTable(
        unit=unit,
        rows=rows,
        doc_ids=["a", "ü", "ü", "c"],
        vectors=np.arange(16, dtype=request.param.value).reshape(4, 4) / 4,
        token_counts=ints + 3,
        truncated=rows == 2,
        hashes=np.frombuffer(b"".join(_hashes([0, 1, 1, 2])), np.uint8).reshape(-1, 16),
        chunks=Chunks(np.array([0, 0, 1, 0], dtype=np.int32), ints * 10, ints * 10 + 9),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("indexer.store.unit_file._GROUP_BYTES", 2 * 4 * table.vectors.itemsize)
        path = tmp_path / "000000.parquet"
        path.write_bytes(unit_bytes(table, MODEL))
    assert pq.ParquetFile(path).num_row_groups == 2
    return path


VALUES = [[row + at / 4 for at in range(4)] for row in range(4)]


def test_pandas_reads_a_unit(unit_file: Path) -> None:
    """Pandas reads every column, vectors as arrays."""
    frame = pd.read_parquet(unit_file)
    assert [list(vector) for vector in frame["embedding"]] == VALUES
    assert frame["doc_id"].tolist() == ["a", "ü", "ü", "c"]
    assert frame["content_hash"].tolist() == _hashes([0, 1, 1, 2])
    assert frame["chunk_stop"].tolist() == [9, 19, 29, 39]
    assert frame["truncated"].tolist() == [False, False, False, True]


def test_polars_reads_a_unit(unit_file: Path) -> None:
    """Polars reads every column, vectors as an array of fixed width."""
    frame = pl.read_parquet(unit_file)
    assert frame["embedding"].to_list() == VALUES
    assert frame["embedding"].dtype.is_nested()
    assert frame["row"].to_list() == [0, 1, 1, 2]
    assert frame["content_hash"].to_list() == _hashes([0, 1, 1, 2])
    assert frame.filter(pl.col("doc_id") == "ü")["chunk"].to_list() == [0, 1]


def test_duckdb_reads_a_unit(unit_file: Path) -> None:
    """DuckDB queries a unit, and its footer says which model made the vectors."""
    query = f"select embedding, doc_id, chunk_start from '{unit_file}' where row = 1 order by chunk"  # noqa: S608
    found = duckdb.sql(query).fetchall()
    assert [(list(vector), doc_id, start) for vector, doc_id, start in found] == [
        (VALUES[1], "ü", 10),
        (VALUES[2], "ü", 20),
    ]
    footer = duckdb.sql(f"select key, value from parquet_kv_metadata('{unit_file}')").fetchall()  # noqa: S608
    told = {bytes(key).decode(): bytes(value).decode() for key, value in footer}
    assert told["embedpool.fingerprint"] == MODEL.fingerprint
    assert (told["embedpool.model"], told["embedpool.dim"]) == ("four", "4")


def test_parts_of_a_unit_are_read_alone(unit_file: Path) -> None:
    """Some documents with all their chunks, or the unit in pieces, are what reading all gives."""
    whole = read_unit(unit_file, doc_ids=True, vectors=True, hashes=True, chunks=True, counts=True)
    some = read_documents(unit_file, np.array([1, 7], dtype=np.int64))
    assert (some.rows.tolist(), some.vectors.tolist()) == ([1, 1], VALUES[1:3])
    assert [row.tobytes() for row in some.hashes] == _hashes([1, 1])
    assert some.chunks is not None
    assert (some.chunks.numbers.tolist(), some.token_counts.tolist()) == ([0, 1], [4, 5])
    assert read_documents(unit_file, np.array([7], dtype=np.int64)).vectors.shape == (0, 4)
    pieces = list(read_unit_pieces(unit_file, vectors=True, hashes=True))
    assert np.array_equal(np.concatenate([piece.vectors for piece in pieces]), whole.vectors)
    assert np.array_equal(np.concatenate([piece.hashes for piece in pieces]), whole.hashes)
    assert {piece.fingerprint for piece in pieces} == {MODEL.fingerprint}


@given(st.data(), st.sampled_from(list(VectorType)), st.integers(1, 40))
def test_some_documents_are_those_of_the_whole_unit(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, kind: VectorType, group: int
) -> None:
    """Whichever rows are asked for, of row groups of any size, they are what reading the whole unit gives."""
    count = data.draw(st.integers(0, 60))
    rows = np.sort(
        np.array(data.draw(st.lists(st.integers(0, 99), min_size=count, max_size=count)), np.int64)
    )
    ints = np.arange(count, dtype=np.int32)
    values = np.random.default_rng(count).standard_normal((count, 4)).astype(kind.value)
    hashes = np.frombuffer(b"".join(_hashes(rows.tolist())), np.uint8).reshape(-1, 16)
    unit = Unit(0, 0, 0, 100, 0)
    table = UnitTable(
        unit, rows, ["d"] * count, values, ints, ints % 2 == 0, hashes, Chunks(ints, ints + 1, ints + 2)
    )
    path = tmp_path_factory.mktemp("unit") / "a.parquet"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("indexer.store.unit_file._GROUP_BYTES", group * 4 * values.itemsize)
        path.write_bytes(unit_bytes(table, MODEL))
    whole = read_unit(path, vectors=True, hashes=True, chunks=True, counts=True)
    assert np.array_equal(whole.vectors, values)
    wanted = np.array(sorted(data.draw(st.sets(st.integers(0, 99)))), dtype=np.int64)
    some, keep = read_documents(path, wanted), np.isin(rows, wanted)
    assert some.vectors.tobytes() == values[keep].tobytes()
    for name in ("rows", "hashes", "token_counts", "truncated"):
        assert np.array_equal(getattr(some, name), getattr(whole, name)[keep])
    assert some.chunks is not None
    assert some.chunks.starts.tolist() == (ints[keep] + 1).tolist()


def test_a_large_row_group_is_read_in_place(tmp_path: Path) -> None:
    """Also where vectors fill several MiB, those of a few documents are the stored ones, bit for bit."""
    count, dim = 12_000, 384
    values = np.random.default_rng(1).standard_normal((count, dim)).astype(np.float32)
    ints = np.ones(count, dtype=np.int32)
    rows, ids = np.arange(count), [f"d{row}" for row in range(count)]
    hashes = np.zeros((count, 16), dtype=np.uint8)
    table = UnitTable(Unit(0, 0, 0, count, 0), rows, ids, values, ints, ints > 1, hashes)
    (tmp_path / "a.parquet").write_bytes(unit_bytes(table, dataclasses.replace(MODEL, dim=dim)))
    wanted = np.array([0, 1, 5460, 5461, 5462, 7000, count - 1], dtype=np.int64)
    assert read_documents(tmp_path / "a.parquet", wanted).vectors.tobytes() == values[wanted].tobytes()


def test_the_same_unit_is_the_same_bytes(tmp_path: Path) -> None:
    """Files hold no time, no host and no chance: written twice they are byte-identical."""
    plan = _plan(5)
    contents = []
    for name in ("a", "b"):
        layout = Layout(tmp_path / name)
        for folder in (layout.root, layout.units, layout.rejects):
            folder.mkdir()
        write_unit(layout, plan, _filled(plan, plan.units[1], {11}))
        contents.append({path.name: path.read_bytes() for path in layout.units.iterdir()})
    assert contents[0] == contents[1]


def test_a_unit_without_any_vector_is_committed(tmp_path: Path) -> None:
    """A unit whose rows were all refused has its file, its receipt and its reasons."""
    plan, layout = _plan(3), Layout(tmp_path)
    layout.units.mkdir()
    layout.rejects.mkdir()
    receipt = write_unit(layout, plan, _filled(plan, plan.units[1], {10, 11, 12}))
    assert (receipt.vectors, receipt.rejects) == (0, {"INTERNAL": 3})
    assert read_unit(layout.unit(1), vectors=True).vectors.shape == (0, 4)
    assert 1 in ledger.committed(layout, plan)


def test_only_whole_units_of_this_plan_count(tmp_path: Path) -> None:
    """No receipt, a receipt of other bounds, or a file that is gone or cut: the unit is made again."""
    plan, layout = _plan(5), Layout(tmp_path)
    layout.units.mkdir()
    layout.rejects.mkdir()
    write_unit(layout, plan, _filled(plan, plan.units[1], {11}))
    assert list(ledger.committed(layout, plan)) == [1]
    assert list(ledger.committed(layout, _plan(4))) == []
    unit_file = layout.unit(1).read_bytes()
    layout.unit(1).write_bytes(unit_file[:-1])
    assert list(ledger.committed(layout, plan)) == []
    layout.unit(1).write_bytes(unit_file)
    layout.unit_rejects(1).unlink()
    assert list(ledger.committed(layout, plan)) == []
    layout.receipt(1).write_text("{")
    with pytest.raises(StoreError, match=r"receipt .* is damaged"):
        ledger.committed(layout, plan)


def test_a_stale_file_of_rejects_goes_with_the_commit(tmp_path: Path) -> None:
    """Rows refused in an attempt that was interrupted are not told as refused when they have vectors now."""
    plan, layout = _plan(5), Layout(tmp_path)
    layout.units.mkdir()
    layout.rejects.mkdir()
    write_unit(layout, plan, _filled(plan, plan.units[1], {11}))
    write_unit(layout, plan, _filled(plan, plan.units[1], set()))
    assert list(layout.rejects.iterdir()) == []


def test_an_index_claims_only_its_own_folder(tmp_path: Path) -> None:
    """A folder that holds something else is refused, and one that an interrupted start left is taken."""
    ledger.claim_folder(tmp_path / "new")
    (tmp_path / "new" / "plan.json.tmp").write_bytes(b"{")
    (tmp_path / "new" / ".lock").write_bytes(b"")
    ledger.claim_folder(tmp_path / "new")
    (tmp_path / "notes.txt").write_bytes(b"")
    with pytest.raises(StoreError, match="is not empty and holds no index"):
        ledger.claim_folder(tmp_path)


def test_another_plan_is_refused_with_what_to_do(tmp_path: Path) -> None:
    """The error names the index, every difference and the two ways out."""
    plan, layout = _plan(5), Layout(tmp_path)
    ledger.freeze_plan(layout, plan)
    ledger.check_same(layout, ledger.load_plan(layout), plan.config, MODEL)
    other = dataclasses.replace(MODEL, fingerprint="0" * 64)
    with pytest.raises(
        PlanError, match=r"four \(ffffffffffff\), the pool serves four \(000000000000\).*--output"
    ):
        ledger.check_same(layout, ledger.load_plan(layout), plan.config, other)
    with pytest.raises(StoreError, match=r"is no index: it has no plan\.json"):
        ledger.load_plan(Layout(tmp_path / "none"))
