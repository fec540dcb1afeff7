"""Texts that stand more than once, through a real pool: embedded once, and nobody can tell from the index."""

import io
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from tokenizers import Tokenizer as RustTokenizer

from build_models.quality.docstrings import Docstring
from indexer.client import Access, Client, describe
from indexer.config import FlowConfig, PlanConfig, RunConfig, VectorType
from indexer.embedding.units import embed_units
from indexer.embedding.work import Embedded, Work
from indexer.errors import ConfigError
from indexer.inputs import parquet
from indexer.plan import Plan, Unit, make_plan
from indexer.progress import Stage
from indexer.store.layout import Layout
from indexer.store.ledger import Receipt, committed
from indexer.store.unit_file import read_rejects, read_unit
from worker.bundle import read_bundle
from worker.session import Session
from worker.tokenizer import Tokenizer

REFUSED = "\x01\x02"  # a text in which the tokenizer finds nothing: the pool refuses it
ROWS = 260
SMALL = FlowConfig(batch_items=3, open_units=3)


@dataclass
class Road:
    """A pool, and what embeds with it."""

    target: str
    folder: Path

    def plan(self, files: Sequence[Path], **config: Any) -> Plan:
        """Returns the plan for files in this order."""
        model = describe(self.target, Access(), 10.0).model
        settings = PlanConfig(text_columns=("text",), **{"unit_rows": 17} | config)
        return make_plan([parquet.describe_input(str(path)) for path in files], settings, model)

    def embed(
        self,
        index: Path,
        plan: Plan,
        units: Iterable[Unit],
        committed: dict[int, Receipt] | None = None,
        flow: FlowConfig = SMALL,
    ) -> Embedded:
        """Embeds units of a plan."""
        pools = {self.target: describe(self.target, Access(), 10.0)}
        config = RunConfig(inputs=("x",), output=index, plan=plan.config, flow=flow)
        work = Work(config, Layout(index), plan, committed or {})
        return embed_units(
            work,
            pools,
            Access(),
            iter(list(units)),
            Stage(Console(file=io.StringIO()), "embedding", plan.rows),
        )

    def texts(self) -> int:
        """Returns how many texts of documents the pool has seen, refused ones included."""
        with Client(self.target) as client:
            return sum(client.statistics()[self.target].documents.texts.values())


@pytest.fixture(scope="module")
def road(
    start_shared_worker: Callable[..., Any], tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> Road:
    """A pool of the tiny model."""
    return Road(start_shared_worker(tiny_bundle).address, tmp_path_factory.mktemp("reuse"))


@pytest.fixture(scope="module")
def texts(some_docstrings: list[Docstring]) -> list[str]:
    """Rows of texts of which most stand several times, in any order, some refused, some long."""
    chance = random.Random(5)
    distinct = [one.text for one in some_docstrings[:60]] + [REFUSED, "\x03", "word " * 400]
    return [chance.choice(distinct) for _ in range(ROWS)]


def _write(path: Path, texts: Sequence[str]) -> Path:
    pq.write_table(
        pa.table({"doc_id": [f"{path.stem}-{row}" for row in range(len(texts))], "text": list(texts)}), path
    )
    return path


def _tree(index: Path) -> dict[str, bytes]:
    files = (path for path in index.rglob("*") if path.is_file())
    return {path.relative_to(index).as_posix(): path.read_bytes() for path in files}


def _check(index: Path, plan: Plan, texts: dict[int, Sequence[str]], bundle_path: Path) -> None:
    """Compares every row of every unit with its text run through the model by itself, bit for bit."""
    bundle, kind = read_bundle(bundle_path), plan.config.vector_type.value
    tokenizer, session = Tokenizer(bundle.tokenizer, bundle.manifest.max_tokens), Session(bundle)
    for unit in plan.units:
        stored = read_unit(
            Layout(index).unit(unit.number), doc_ids=True, vectors=True, counts=True, hashes=True
        )
        of_file = texts[unit.file]
        refused = [row for row in range(unit.start, unit.stop) if of_file[row] in (REFUSED, "\x03")]
        assert stored.rows.tolist() == [row for row in range(unit.start, unit.stop) if row not in refused]
        name = Path(plan.inputs[unit.file].path).stem
        assert stored.doc_ids == [f"{name}-{row}" for row in stored.rows]
        (tokens,) = zip(*[tokenizer.encode([of_file[row]]) for row in stored.rows.tolist()], strict=True)
        expected = np.concatenate([session.embed([one.ids]) for one in tokens]).astype(kind)
        assert stored.vectors.tobytes() == expected.tobytes()
        assert stored.token_counts.tolist() == [len(one.ids) for one in tokens]
        assert stored.truncated.tolist() == [one.truncated for one in tokens]
        rejects = read_rejects(Layout(index).unit_rejects(unit.number)) if refused else []
        assert [reject.row for reject in rejects] == refused
        assert {reject.doc_id for reject in rejects} == {f"{name}-{row}" for row in refused}
        assert all("the tokenizer finds nothing" in reject.reason for reject in rejects)


@pytest.mark.parametrize("kind", list(VectorType))
@pytest.mark.parametrize("open_units", [1, 8])
def test_copied_vectors_are_those_of_embedding_again(
    road: Road, texts: list[str], tiny_bundle: Path, tmp_path: Path, kind: VectorType, open_units: int
) -> None:
    """Each text reaches the pool once, and every row has the bits and the reason of its text alone."""
    plan = road.plan([_write(tmp_path / "a.parquet", texts)], vector_type=kind)
    before = road.texts()
    flow = FlowConfig(batch_items=3, open_units=open_units)
    done = road.embed(tmp_path / "index", plan, plan.units, flow=flow)
    assert road.texts() - before == len(set(texts))
    assert done.reused == ROWS - len(set(texts))
    assert sorted(done.receipts) == list(range(len(plan.units)))
    _check(tmp_path / "index", plan, {0: texts}, tiny_bundle)


@pytest.mark.parametrize("seed", range(6))
def test_what_was_there_before_does_not_show(road: Road, texts: list[str], tmp_path: Path, seed: int) -> None:
    """Units made in any two runs, in whatever share, have the bytes of one run's, receipts included."""
    plan = road.plan([_write(tmp_path / "a.parquet", texts)])
    road.embed(tmp_path / "whole", plan, plan.units)
    chance = random.Random(seed)
    first = [unit for unit in plan.units if chance.random() < 0.5]
    done = road.embed(tmp_path / "halves", plan, first)
    rest = [unit for unit in plan.units if unit not in first]
    road.embed(tmp_path / "halves", plan, rest, done.receipts)
    assert _tree(tmp_path / "halves") == _tree(tmp_path / "whole")


def test_a_changed_file_is_hardly_embedded_again(
    road: Road, texts: list[str], tiny_bundle: Path, tmp_path: Path
) -> None:
    """Of a file whose rows moved and of which few changed, only the changed texts reach the pool."""
    old = _write(tmp_path / "a.parquet", texts)
    plan = road.plan([old])
    done = road.embed(tmp_path / "index", plan, plan.units)
    changed = ["a new beginning", *texts[:100], "something else", *texts[101:]]
    both = road.plan([old, _write(tmp_path / "b.parquet", changed)])
    before = road.texts()
    added = [unit for unit in both.units if unit.file == 1]
    again = road.embed(tmp_path / "index", both, added, done.receipts)
    # A refusal is known to the run that met it: the next one asks once more.
    assert road.texts() - before == 2 + len({REFUSED, "\x03"} & set(changed))
    assert again.reused == len(changed) - (road.texts() - before)
    _check(tmp_path / "index", both, {0: texts, 1: changed}, tiny_bundle)


def test_one_text_a_thousand_times(road: Road, tmp_path: Path) -> None:
    """A run that embeds one text alone ends: units that only copy wait for the first, and for no more."""
    plan = road.plan([_write(tmp_path / "a.parquet", ["the same"] * 1000)], unit_rows=9)
    before = road.texts()
    done = road.embed(tmp_path / "index", plan, plan.units, flow=FlowConfig(open_units=2))
    assert (road.texts() - before, done.reused) == (1, 999)
    vectors = [
        read_unit(Layout(tmp_path / "index").unit(unit.number), vectors=True).vectors for unit in plan.units
    ]
    assert len({row.tobytes() for part in vectors for row in part}) == 1


def test_each_chunk_has_a_vector(road: Road, texts: list[str], tiny_bundle: Path, tmp_path: Path) -> None:
    """With chunks a long text has the vector of each of its windows, and says where they lie; copies too."""
    path = _write(tmp_path / "a.parquet", texts)
    plan = road.plan([path], chunk_tokens=24, chunk_overlap=6)
    before = road.texts()
    done = road.embed(tmp_path / "index", plan, plan.units)
    assert road.texts() - before == len(set(texts))
    session = Session(read_bundle(tiny_bundle))
    library = RustTokenizer.from_file(str(read_bundle(tiny_bundle).tokenizer))
    library.no_padding()
    library.enable_truncation(24, stride=6)
    for unit in plan.units:
        stored = read_unit(
            Layout(tmp_path / "index").unit(unit.number), vectors=True, chunks=True, counts=True
        )
        rows, chunks = [], []
        for row in range(unit.start, unit.stop):
            if texts[row] not in (REFUSED, "\x03"):
                encoding = library.encode(texts[row])
                made = [encoding, *encoding.overflowing][:64]
                rows += [row] * len(made)
                chunks += made
        assert stored.rows.tolist() == rows
        assert done.receipts[unit.number].vectors == len(rows)
        expected = [session.embed([np.array(one.ids)]).astype(np.float32).tobytes() for one in chunks]
        assert stored.vectors.tobytes() == b"".join(expected)
        assert stored.token_counts.tolist() == [len(one.ids) for one in chunks]
        assert stored.chunks is not None
        spans = [(one.offsets[1][0], one.offsets[-2][1]) for one in chunks]
        assert list(zip(stored.chunks.starts, stored.chunks.stops, strict=True)) == spans
        first = np.flatnonzero(np.diff(stored.rows, prepend=-1))
        assert (stored.chunks.numbers[first] == 0).all()
        assert (np.diff(stored.chunks.numbers)[np.diff(stored.rows) == 0] == 1).all()


def test_chunks_that_outgrow_the_memory_are_told_and_more_memory_goes_on(
    road: Road, texts: list[str], tmp_path: Path
) -> None:
    """A unit that its chunks make too large ends the run in order; with a larger budget it goes on."""
    plan = road.plan([_write(tmp_path / "a.parquet", texts)], chunk_tokens=8)
    with pytest.raises(ConfigError, match=r"unit \d+ takes .* run again with a larger --mib-units"):
        road.embed(tmp_path / "index", plan, plan.units, flow=FlowConfig(unit_memory_bytes=40_000))
    standing = committed(Layout(tmp_path / "index"), plan)
    rest = [unit for unit in plan.units if unit.number not in standing]
    road.embed(tmp_path / "index", plan, rest, standing)
    road.embed(tmp_path / "whole", plan, plan.units)
    assert _tree(tmp_path / "index") == _tree(tmp_path / "whole")


def test_copies_of_many_chunks_are_bounded_too(road: Road, tmp_path: Path) -> None:
    """One long text in every row of a unit takes no more memory than a unit may: that is told as well."""
    plan = road.plan([_write(tmp_path / "a.parquet", ["word " * 400] * 100)], chunk_tokens=8, unit_rows=100)
    with pytest.raises(ConfigError, match=r"unit 0 takes .* run again with a larger --mib-units"):
        road.embed(tmp_path / "index", plan, plan.units, flow=FlowConfig(unit_memory_bytes=1 << 20))
    done = road.embed(tmp_path / "index", plan, plan.units)
    assert (done.receipts[0].vectors, done.receipts[0].documents, done.reused) == (6400, 100, 99)
