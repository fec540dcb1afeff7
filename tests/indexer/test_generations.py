"""Generations of a FAISS index: updates and deletions against brute force, whatever their order."""

import hashlib
import io
import itertools
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.errors import StoreError
from indexer.index import faiss_build, generations, tuning
from indexer.index.faiss_index import VectorIndex
from indexer.index.measure import Built
from indexer.index.shards import Shard, absorb
from tests.indexer.grown import UNIT_ROWS, Grown, commit_chunks, receipt, unit_vectors

QUERIES = unit_vectors(20, seed=99)
K = 5
steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 300)),
        st.tuples(st.just("kill"), st.integers(0, 100)),
        st.tuples(st.just("full"), st.just(0)),
    ),
    min_size=1,
    max_size=6,
)


def _check(grown: Grown, *, mapped: bool = False) -> None:
    """What is found is what brute force finds among the living, and among those that are allowed."""
    index = grown.open(mapped=mapped)
    assert index.count == len(grown.alive)
    for allowed in (None, np.arange(len(grown.there)) % 3 == 1):
        expected = grown.nearest(QUERIES, K, allowed)
        scores, ids = index.search(QUERIES, K, allowed)
        assert scores.dtype == np.float32
        assert ids.shape == (len(QUERIES), K)
        assert np.array_equal(ids[:, : expected.shape[1]], expected)
        assert (ids[:, expected.shape[1] :] == -1).all()
        assert (np.diff(scores[:, : expected.shape[1]], axis=1) <= 0).all()


def _bytes_below(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("key", ["IDMap,Flat", "IVF8,Flat"])
@given(steps)
@settings(max_examples=15, deadline=None)
def test_any_updates_and_deletions_find_what_exact_search_finds(
    key: str, wanted: Sequence[tuple[str, int]]
) -> None:
    """After each step: every living vector is found, no dead one; old files stand; shards stay few."""
    with TemporaryDirectory() as folder:
        grown = Grown(Path(folder))
        grown.add(unit_vectors(100))
        before: dict[str, str] = {}
        for number, (what, size) in enumerate([("add", 0), *wanted]):
            if what == "add" and size:
                grown.add(unit_vectors(size, seed=number), rejected=range(0, size, 10))
            elif what == "kill":
                grown.kill(np.random.default_rng(number).integers(0, len(grown.there), size))
            generation = grown.update(key, full=what == "full")
            _check(grown)
            shards = generation.meta.shards
            assert len(shards) <= math.log2(len(grown.there)) + 1
            assert all(one.vectors >= 2 * other.vectors for one, other in itertools.pairwise(shards))
            expected = generations.expected_ids(grown.layout, generation, grown.receipts)
            assert np.array_equal(grown.open().ids(), expected)
            assert np.array_equal(generations.dead_rows(grown.layout, generation), grown.dead)
            assert generations.holds(generation, grown.receipts, grown.dead)
            assert all(path.is_file() for path in generations.files_in_use(grown.layout, generation))
            if what == "full":
                assert len(expected) == len(grown.alive)
            now = _bytes_below(grown.layout.generations)
            assert before.items() <= now.items()
            before = now


@pytest.mark.parametrize(
    ("key", "least"),
    [
        ("HNSW8", 0.93),
        ("IVF8,SQ8", 0.93),
        ("IVF8,PQ8x4fs,RFlat", 0.93),
        ("IVF8,PQ8x4fs,Refine(SQ8)", 0.93),
        ("PQ8x4fs", 0.3),
        ("PCA12,IVF8,SQ8", 0.4),
    ],
)
def test_every_kind_is_updated_and_deletes(key: str, least: float, tmp_path: Path) -> None:
    """Kinds with codes and graphs find nearly all, the living alone, the allowed alone, also when mapped."""
    grown = Grown(tmp_path)
    grown.add(unit_vectors(1500))
    grown.update(key)
    grown.add(unit_vectors(300, seed=5))
    grown.kill(range(0, 1800, 4))
    generation = grown.update(key)
    assert len(generation.meta.shards) == 2
    few = np.zeros(1800, dtype=np.bool_)
    few[[5, 6, 7, 8, 1750]] = True
    for mapped in (False, True):
        index = grown.open(mapped=mapped)
        if index.refined:
            index.configure({"k_factor_rf": 8})
        for allowed in (None, np.arange(1800) % 3 > 0, few):
            ids = index.search(QUERIES, K, allowed)[1]
            good = ids[ids >= 0]
            assert np.isin(good, grown.alive).all()
            assert allowed is None or allowed[good].all()
            expected = grown.nearest(QUERIES, K, allowed)
            found = [len(set(one) & set(other)) for one, other in zip(ids, expected, strict=True)]
            assert np.sum(found) >= least * expected.size


@pytest.mark.parametrize("key", ["IDMap,Flat", "IVF8,SQ8"])
def test_the_same_steps_give_the_same_bytes(key: str, tmp_path: Path) -> None:
    """Twice the same updates and deletions, once killed at any commit: every file is the same."""

    class Killed(BaseException):
        pass

    def play(root: Path, die_at: int) -> bool:
        """Returns whether it was killed on the way, and then done again."""
        grown, writes, killed = Grown(root), 0, False
        grown.add(unit_vectors(700), rejected=[3])

        def replace(path: Path, target: Path) -> Path:
            nonlocal writes
            writes += 1
            if writes == die_at:
                (path.parent / "000007.faiss").write_bytes(b"left by a process that was killed")
                raise Killed
            os.replace(path, target)  # noqa: PTH105 - the real one
            return target

        for step in ("new", "grow", "kill"):
            if step == "grow":
                grown.add(unit_vectors(100, seed=3))
            elif step == "kill":
                grown.kill(range(0, 800, 9))
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(Path, "replace", replace)
                try:
                    grown.update(key)
                except Killed:
                    killed = True
                    grown.update(key)
        _check(grown) if key.endswith(",Flat") else None
        return killed

    assert not play(tmp_path / "whole", 0)
    expected = _bytes_below(tmp_path / "whole")
    assert len(expected) > 15
    die_at = 1
    while play(tmp_path / f"{die_at}", die_at):
        found = _bytes_below(tmp_path / f"{die_at}")
        assert {name: digest for name, digest in found.items() if "000007.faiss" not in name} == expected
        die_at += 1
    assert die_at > 8


def test_a_build_that_was_killed_goes_on_with_what_it_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was learned and the pieces that were filled are not made again; for other dead rows they are."""
    trained: list[str] = []
    filled: list[str] = []
    train, fill = faiss_build.train, faiss_build.fill

    def count_train(key: str, *others: Any) -> VectorIndex:
        trained.append(key)
        return train(key, *others)

    def count_fill(index: VectorIndex, key: str, pieces: Any) -> VectorIndex:
        filled.append(key)
        return fill(index, key, pieces)

    monkeypatch.setattr(faiss_build, "train", count_train)
    monkeypatch.setattr(faiss_build, "fill", count_fill)
    grown = Grown(tmp_path)
    grown.add(unit_vectors(1000))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(faiss_build, "join", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            grown.update("IVF8,Flat", memory=20_000)
    pieces = len(filled)
    grown.update("IVF8,Flat", memory=20_000)
    assert (len(trained), len(filled)) == (1, pieces)
    assert pieces > 3
    grown.kill(range(900))
    grown.update("IVF8,Flat", full=True)
    assert len(trained) == 2
    _check(grown)


@pytest.mark.parametrize("key", ["IVF8,Flat", "IVF8,SQ8", "IVF8,PQ2np", "PCA8,IVF8,SQ4"])
def test_pieces_that_are_joined_are_what_one_build_writes(key: str, tmp_path: Path) -> None:
    """With memory for a tenth of an index, its file is byte for byte that of an index built whole."""
    for name, memory in (("whole", None), ("pieces", 10_000)):
        grown = Grown(tmp_path / name)
        grown.add(unit_vectors(2000), rejected=range(0, 2000, 7))
        grown.kill(range(0, 2000, 5))
        grown.update(key, memory=memory)
    whole, pieces = (_bytes_below(tmp_path / name) for name in ("whole", "pieces"))
    assert whole == pieces
    assert [name for name in pieces if "piece" in name] == []


def test_kinds_that_cannot_be_joined_become_several_shards(tmp_path: Path) -> None:
    """With memory for a part of them, graphs and exact search have several files, and find the same."""
    grown = Grown(tmp_path)
    grown.add(unit_vectors(2000))
    generation = grown.update("IDMap,Flat", memory=80_000)
    assert len(generation.meta.shards) == pytest.approx(2000 * 16 * 4 * 2 / 80_000, abs=1)
    _check(grown)
    grown.add(unit_vectors(64, seed=2))
    assert len(grown.update("IDMap,Flat", memory=80_000).meta.shards) <= len(generation.meta.shards) + 1
    _check(grown, mapped=True)


_MEASURED = """
import sys, threading
from pathlib import Path
from indexer.index import faiss_index, generations
from tests.indexer import grown as grown_module
from tests.indexer.grown import Grown, unit_vectors
grown_module.UNIT_ROWS = 2048
grown = Grown(Path(sys.argv[1]), dim=64)
grown.add(unit_vectors(60_000, 64))
grown.vectors = grown.vectors[:0]
def own():
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if "RssAnon" in line]
    return int(line.split()[1]) << 10
grown.update("IVF4,Flat", memory=1 << 20) if sys.argv[3] == "warm" else None
before, most, done = own(), [0], threading.Event()
def watch():
    while not done.wait(0.001):
        most[0] = max(most[0], own())
watcher = threading.Thread(target=watch)
watcher.start()
grown.update("IVF16,Flat", memory=int(sys.argv[2]))
done.set()
watcher.join()
print(most[0] - before)
"""


def test_a_real_process_stays_within_the_memory_for_builds(tmp_path: Path) -> None:
    """15 MB of vectors are indexed in a third of the memory that a whole build takes, sample included."""

    def grown_by(memory: int) -> int:
        root = tmp_path / str(memory)
        command = [sys.executable, "-c", _MEASURED, str(root), str(memory), "warm"]
        environment = {**os.environ, "MALLOC_ARENA_MAX": "1", "MALLOC_TRIM_THRESHOLD_": "65536"}
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=120, check=True, env=environment
        )
        return int(done.stdout)

    whole, pieces = grown_by(1 << 30), grown_by(4 << 20)
    assert whole > 15_000_000
    assert pieces < whole / 2


@pytest.mark.parametrize("key", ["IDMap,Flat", "IVF4,Flat"])
def test_chunks_share_the_row_id_of_their_document(key: str, tmp_path: Path) -> None:
    """Each chunk is a hit with its document's id; those of a dead one are gone; recall counts vectors."""
    grown, chunks = Grown(tmp_path), 3
    vectors = unit_vectors(2 * UNIT_ROWS * chunks).reshape(2, UNIT_ROWS, chunks, -1)
    for at, dead in enumerate(([], [5, 70])):
        commit_chunks(grown, vectors[at])
        grown.kill(dead)
        generation = grown.update(key)
        ids = np.repeat(np.arange(len(grown.there)), chunks)
        alive = ~np.isin(ids, grown.dead)
        assert generation.meta.count == grown.open().count == alive.sum()
        assert np.array_equal(
            generations.expected_ids(grown.layout, generation, grown.receipts), grown.open().ids()
        )
        order = np.argsort(-(QUERIES @ vectors[: at + 1].reshape(-1, 16)[alive].T), axis=1)[:, :7]
        assert np.array_equal(grown.open().search(QUERIES, 7)[1], ids[alive][order])
        built = Built(grown.layout, grown.plan, tuple(grown.receipts), generation)
        queries = tuning.held_out(built.read, built.count, 40)
        evaluation = tuning.evaluate(grown.open(), queries, built.read, 10, also={"nprobe": 4})
        assert evaluation.points[-1].recall == 1
    assert grown.update(key, full=True).meta.vectors == alive.sum()


def test_damage_is_one_clear_error(tmp_path: Path) -> None:
    """A shard of another size, a list of dead rows that is another, a CURRENT that names nothing."""
    grown = Grown(tmp_path)
    grown.add(unit_vectors(100))
    grown.kill([1])
    generation = grown.update("IDMap,Flat")
    path = grown.layout.generations / "000001/dead.npy"
    stream = io.BytesIO()
    np.save(stream, np.array([2]))
    for data, words in ((stream.getvalue(), "differs"), (b"", "cannot read")):
        path.write_bytes(data)
        with pytest.raises(StoreError, match=f"{words}.*delete CURRENT"):
            generations.open_index(grown.layout, generation)
    grown.layout.current.write_text("faiss/000009\n")
    with pytest.raises(StoreError, match=r"CURRENT .* names generation 000009.*delete CURRENT"):
        generations.current(grown.layout)


def test_what_was_changed_under_a_shard_is_built_again(tmp_path: Path) -> None:
    """A unit that has other vectors now, or a shard of another size, is not kept."""
    grown = Grown(tmp_path)
    grown.add(unit_vectors(640))
    first = grown.update("IDMap,Flat")
    assert grown.update("IDMap,Flat").meta.shards == first.meta.shards
    file = grown.layout.generations / first.meta.shards[0].file
    file.write_bytes(file.read_bytes()[:-1])
    assert grown.update("IDMap,Flat").meta.shards != first.meta.shards
    _check(grown)


def test_few_that_are_left_keep_what_many_taught(tmp_path: Path) -> None:
    """When too few vectors live to train on, a whole build takes the template that stands."""
    grown = Grown(tmp_path)
    grown.add(unit_vectors(640))
    first = grown.update("IVF16,Flat")
    grown.kill(range(635))
    last = grown.update("IVF16,Flat", full=True)
    assert last.meta.template == first.meta.template
    assert last.meta.vectors == 5
    _check(grown)


@given(st.lists(st.integers(1, 10**6), max_size=60), st.integers(0, 4000))
def test_shards_are_few_and_vectors_are_built_seldom(sizes: list[int], lists: int) -> None:
    """Whatever is added in whatever order: log2 shards, none but the last small, vectors in few builds."""
    shards: list[Shard] = []
    written = 0
    for number, size in enumerate(sizes):
        kept = absorb(shards, size, lists=lists)
        total = size + sum(shard.vectors for shard in shards[kept:])
        shards = [*shards[:kept], Shard("", number, number + 1, total, "", "", 0)]
        written += total
        assert len(shards) <= math.log2(sum(sizes[: number + 1])) + 1
        assert all(shard.vectors >= 16 * lists for shard in shards[:-1])
    assert lists or written <= sum(sizes) * (2 + math.log(max(1, sum(sizes)), 1.5))


def test_units_are_taken_whole(tmp_path: Path) -> None:
    """A unit's file that holds fewer vectors than its receipt says stops the build with one line."""
    grown = Grown(tmp_path)
    grown.add(unit_vectors(UNIT_ROWS))
    (one,) = grown.receipts
    grown.receipts = [receipt(one.unit, one.vectors - 1, one.unit_sha256, one.unit_bytes)]
    with pytest.raises(StoreError, match=r"holds 64 vectors, its receipt says 63; delete the receipt"):
        grown.update("IDMap,Flat")
