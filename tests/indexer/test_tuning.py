"""Measured settings of real indexes, and how a folder keeps the one that was chosen."""

import json
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count as numbers
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from click.testing import CliRunner
from rich.console import Console

from indexer.__main__ import cli
from indexer.config import PlanConfig, Wishes
from indexer.errors import BuildError, ConfigError, StoreError
from indexer.index import faiss_index, generations, measure, recall_plot, tuning
from indexer.index.ground_truth import Queries
from indexer.plan import InputFile, Model, make_plan
from indexer.sealed import check_seal, sealed_json
from indexer.search.searcher import Searcher
from indexer.store.durable import make_folder
from indexer.store.layout import Layout
from indexer.store.ledger import Receipt, commit_unit, freeze_plan, sha256
from indexer.store.lock import exclusive
from indexer.store.unit_file import UnitTable, unit_bytes

COUNT, DIM = 3000, 16
MODEL = Model("f" * 64, "sixteen", DIM, normalized=True)
QUIET = Console(quiet=True)
MakeIndex = Callable[..., Path]


@pytest.fixture(scope="module")
def vectors() -> Any:
    """Vectors of unit length around 60 centres, float32 `[COUNT, DIM]`."""
    rng = np.random.default_rng(1)
    made = rng.standard_normal((60, DIM))[rng.integers(0, 60, COUNT)] + 0.5 * rng.standard_normal(
        (COUNT, DIM)
    )
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def make_index(tmp_path: Path, vectors: Any) -> MakeIndex:
    """Writes the folder of an index of `vectors` as a run leaves it; every tenth row was rejected."""
    names = numbers()

    def make(key: str, stored: Any = vectors) -> Path:
        layout = Layout(tmp_path / f"index{next(names)}")
        plan = make_plan([InputFile("/none.parquet", 1, 1, (len(stored),))], PlanConfig(unit_rows=700), MODEL)
        for folder in (layout.units, layout.rejects):
            make_folder(folder)
        freeze_plan(layout, plan)
        receipts = []
        for unit in plan.units:
            rows = np.array([row for row in range(unit.start, unit.stop) if row % 10], dtype=np.int64)
            flat = np.ones(len(rows), dtype=np.int32)
            names_of = [f"d{row}" for row in rows]
            hashes = np.zeros((len(rows), 16), dtype=np.uint8)
            table = UnitTable(unit, rows, names_of, stored[rows], flat, flat.astype(np.bool_), hashes)
            data = unit_bytes(table, MODEL)
            rejects = {"empty": unit.rows - len(rows)}
            receipt = Receipt(
                unit, MODEL.fingerprint, len(rows), len(rows), rejects, 1, 0, sha256(data), len(data)
            )
            commit_unit(layout, receipt, data, b"")
            receipts.append(receipt)
        generations.update(layout, plan, receipts, generations.NO_DEAD, key, lambda _: None)
        return layout.root

    return make


def _clock() -> Callable[[], float]:
    """Returns a clock whose every look is a millisecond later than the one before."""
    ticks = numbers()
    return lambda: next(ticks) / 1000


def _said(error: Exception) -> str:
    assert "\n" not in str(error)
    return str(error)


def _recall(*arguments: str | Path) -> str:
    return CliRunner().invoke(cli, ["recall", *map(str, arguments)], catch_exceptions=False).stdout


@pytest.mark.parametrize(
    ("key", "setting"),
    [("IVF60,Flat", "nprobe"), ("HNSW8", "efSearch"), ("Flat", None), ("IVF60,SQ4", "nprobe")],
)
def test_recall_is_that_of_brute_force(
    key: str, setting: str | None, make_index: MakeIndex, vectors: Any
) -> None:
    """Each point has the recall that counting by hand gives, rises with effort, and is timed by the clock."""
    built = measure.open_built(make_index(key))
    rows = np.array([row for row in range(COUNT) if row % 10])
    queries = vectors[:80] + np.float32(0.05)
    scores = queries @ vectors[rows].T
    kth = -np.sort(-scores, axis=1)[:, 9]
    index = faiss_index.read_index(built.layout.generations / "000001/000000.faiss")
    evaluation = tuning.evaluate(index, Queries.foreign(queries), built.read, 10, _clock())
    for point in evaluation.points:
        assert list(point.setting) == ([setting] if setting else [])
        index.configure(point.setting)
        found = index.search(queries, 10)[1]
        good = [np.isin(found[at], rows[scores[at] >= kth[at] - 1e-5]).sum() for at in range(len(queries))]
        assert point.recall == pytest.approx(np.mean(good) / 10, abs=1e-9)
        assert point.queries_per_second == pytest.approx(1000)
        assert point.p50_ms == pytest.approx(1)
    recalls = [point.recall for point in evaluation.points]
    if key == "IVF60,Flat":  # codes and graphs may find a little less with more effort
        assert recalls == sorted(recalls)
    if key == "IVF60,SQ4":
        assert recalls[-1] < 0.99  # its codes are what limits it, and the search for more stops
    else:
        assert recalls[-1] > 0.99


def test_held_out_vectors_find_others(make_index: MakeIndex, vectors: Any) -> None:
    """Exact search finds all neighbours of its own vectors without counting them for themselves."""
    built = measure.open_built(make_index("Flat"))
    evaluation = measure.measure(built, measure.sample_queries(built, 50), 7, QUIET)
    assert [(point.recall, point.name) for point in evaluation.points] == [(1.0, "exact")]
    assert (evaluation.queries, evaluation.held_out, evaluation.k) == (50, True, 7)


def test_tuning_takes_the_least_effort_that_meets_the_recall(make_index: MakeIndex) -> None:
    """The setting reaches the recall, less does not, and the same vectors store the same bytes."""
    metas = []
    for _ in range(2):
        root = make_index("IVF60,Flat")
        generation = measure.tune(measure.open_built(root), Wishes(target_recall=0.95), QUIET)
        measure.check_met(generation)
        metas.append(Layout(root).meta("000001").read_bytes())
    assert metas[0] == metas[1]
    assert generation.meta.tuning is not None
    assert generation.meta.tuning.recall >= 0.95
    built = measure.open_built(root)
    assert built.generation == generation
    evaluation = measure.measure(built, measure.sample_queries(built, tuning.QUERIES), 10, QUIET)
    chosen = generation.meta.search["nprobe"]
    assert [point.recall >= 0.95 for point in evaluation.points] == [
        point.setting["nprobe"] >= chosen for point in evaluation.points
    ]
    with Searcher(root) as searcher:
        inverted: Any = faiss.try_extract_index_ivf(
            searcher._following.snapshot._nearest._index._shards[0]._index
        )
        assert inverted.nprobe == chosen


def test_a_setting_that_stands_is_not_measured_again(
    make_index: MakeIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same wishes take the stored setting; others measure anew."""
    root = make_index("IVF60,Flat")
    wishes = Wishes(target_recall=0.9)
    first = measure.tune(measure.open_built(root), wishes, QUIET)
    looked: list[int] = []
    monkeypatch.setattr(measure, "sample_queries", lambda *_: looked.append(1))
    assert measure.tune(measure.open_built(root), wishes, QUIET) == first
    with pytest.raises(AttributeError):
        measure.tune(measure.open_built(root), Wishes(target_recall=0.99), QUIET)
    assert looked == [1]


def test_what_cannot_be_met_is_stored_as_the_nearest_and_said(make_index: MakeIndex) -> None:
    """Codes that lose too much reach no recall of .999; the best is used, and the error names it."""
    built = measure.open_built(make_index("IVF60,SQ4"))
    generation = measure.tune(built, Wishes(target_recall=0.999), QUIET)
    with pytest.raises(
        BuildError, match=r"recall 0\.999 is not reached: the nearest is recall 0\.\d+ with"
    ) as caught:
        measure.check_met(generation)
    assert "more memory or another --index-key than IVF60,SQ4" in _said(caught.value)
    assert measure.open_built(built.layout.root).generation == generation


def test_the_command_measures_saves_and_writes(make_index: MakeIndex, tmp_path: Path) -> None:
    """A table of settings, JSON with the same figures, a picture, and the setting in the index."""
    root, written, picture = make_index("IVF60,Flat"), tmp_path / "r.json", tmp_path / "r.png"
    options: list[str | Path] = ["--index", root, "--sample", "200", "--target-recall", ".9", "--save"]
    out = _recall(*options, "--json", written, "--plot", picture).splitlines()
    found = json.loads(written.read_text())
    assert out[0] == "index    IVF60,Flat, 2,700 vectors of 16 values"
    assert out[1].startswith(
        "measured 200 held-out vectors of it, one after the other on one core, recall@10"
    )
    assert out[2].split() == ["setting", "recall", "queries/s", "p50", "ms", "p99", "ms"]
    for line, point in zip(out[3:-1], found["points"], strict=True):
        assert line.split()[:3] == ["nprobe", str(point["setting"]["nprobe"]), f"{point['recall']:.4f}"]
    assert out[-1].startswith(f"picked   nprobe {found['picked']['nprobe']}: recall ")
    assert (found["k"], found["queries"], found["held_out"], found["unmet"]) == (10, 200, True, "")
    assert any(point["pareto"] for point in found["points"])
    assert picture.read_bytes().startswith(b"\x89PNG")
    stored = json.loads(Layout(root).meta("000001").read_text())
    assert stored["search"] == found["picked"]
    assert stored["tuning"]["target_recall"] == 0.9
    assert [
        line.split()[-2:] for line in _recall("--index", root, "--mmap").splitlines() if "in use" in line
    ] == [["in", "use"]]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--save"], "--save needs --target-recall or --max-query-ms"),
        (["--queries", "none.txt"], "go together: the pool embeds them"),
        (["--queries", "none.txt", "--sample", "3"], "one of --queries FILE and --sample N"),
        (["--sample", "0"], "the sample has 0 vectors, wanted at least 1"),
        (["-k", "0"], "k is 0, wanted at least 1"),
        (["--target-recall", "1.5"], "wanted above 0 and up to 1"),
    ],
)
def test_wrong_usage_is_said_at_once(arguments: Sequence[str], words: str, make_index: MakeIndex) -> None:
    """Options that do not go together are a ConfigError, which is exit code 2."""
    with pytest.raises(ConfigError, match=words):
        _recall("--index", make_index("Flat"), *arguments)


def test_nothing_is_stored_when_the_wish_is_not_met(make_index: MakeIndex) -> None:
    """`recall --save` with an unreachable wish leaves the index as it is, and says what could be reached."""
    root = make_index("IVF60,SQ4")
    before = Layout(root).meta("000001").read_bytes()
    with pytest.raises(BuildError, match=r"the nearest is recall .* with nprobe \d+; nothing was stored"):
        _recall("--index", root, "--target-recall", "1", "--save")
    assert Layout(root).meta("000001").read_bytes() == before


def test_a_run_at_work_is_not_disturbed(make_index: MakeIndex) -> None:
    """Storing a setting takes the lock of the index, and refuses when the generation is another by now."""
    root = make_index("IVF60,Flat")
    built = measure.open_built(root)
    evaluation = measure.measure(built, measure.sample_queries(built, 20), 5, QUIET)
    wishes = Wishes(target_recall=0.5)
    with exclusive(Layout(root), "run"), pytest.raises(StoreError, match="works on"):
        measure.save(built, evaluation, wishes)
    generations.update(built.layout, built.plan, built.receipts, generations.NO_DEAD, "Flat", lambda _: None)
    with pytest.raises(StoreError, match="has changed meanwhile"):
        measure.save(built, evaluation, wishes)


def test_an_incomplete_index_is_not_measured(make_index: MakeIndex, tmp_path: Path) -> None:
    """No plan, a missing unit or no FAISS index each is one clear error."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(StoreError, match="is no index"):
        measure.open_built(tmp_path / "empty")
    for name in ("CURRENT", "units/000001.receipt.json"):
        root = make_index("Flat")
        (root / name).unlink()
        with pytest.raises(StoreError, match="is not complete"):
            measure.open_built(root)


def test_a_missing_matplotlib_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the toolchain's extra, --plot names what to install before anything is measured."""
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ConfigError, match=r"pip install 'embedpool\[build\]'"):
        recall_plot.check_installed()


@pytest.mark.parametrize("mapped", [False, True])
def test_a_searcher_of_vectors_needs_no_pool(mapped: bool, make_index: MakeIndex, vectors: Any) -> None:
    """Many threads ask one searcher at once, and each gets what brute force gives; texts need a pool."""
    rows = np.array([row for row in range(COUNT) if row % 10])
    with Searcher(make_index("IVF60,Flat"), mapped=mapped) as searcher:
        searcher._following.snapshot._nearest._index.configure({"nprobe": 60})
        assert (searcher.count, searcher.dim, searcher.unreached) == (2700, DIM, [])

        def names(at: int) -> list[str]:
            return [
                hit.doc_id for hit in searcher.search_vectors(vectors[at : at + 1].astype(np.float64), 5)[0]
            ]

        with ThreadPoolExecutor(8) as threads:
            found = list(threads.map(names, range(200)))
        best = np.argsort(-(vectors[:200] @ vectors[rows].T), axis=1)[:, :5]
        assert found == [[f"d{row}" for row in rows[of_query]] for of_query in best]
        assert searcher.search_vectors(vectors[:0]) == []
        assert len(searcher.search_vectors(vectors[:1], 9999)[0]) == 2700
        for wrong in (vectors[0], vectors[:, :5]):
            with pytest.raises(ConfigError, match=r"wanted \[queries, 16\]"):
                searcher.search_vectors(wrong)
        with pytest.raises(ConfigError, match="has no pool to embed texts"):
            searcher.search(["words"])


@pytest.mark.parametrize("mapped", [False, True])
def test_an_index_of_another_size_is_not_opened(mapped: bool, make_index: MakeIndex) -> None:
    """A file that lost its end is refused before any page of it is touched, and says what to do."""
    root = make_index("IVF60,Flat")
    path = Layout(root).generations / "000001/000000.faiss"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(StoreError, match=r"has [\d,]+ bytes, its meta.json says .*; delete CURRENT"):
        Searcher(root, mapped=mapped)


def test_the_setting_in_use_is_measured_too(make_index: MakeIndex) -> None:
    """`recall` shows what searches use even where the ladder has no such rung."""
    root = make_index("IVF60,Flat")
    meta = Layout(root).meta("000001")
    values = check_seal(json.loads(meta.read_text()))
    meta.write_text(sealed_json(values | {"search": {"nprobe": 7}}))
    lines = _recall("--index", root, "--sample", "50").splitlines()
    assert [line.split()[1] for line in lines if "in use" in line] == ["7"]
