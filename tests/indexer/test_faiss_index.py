"""FAISS indexes against brute force."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from indexer.config import Wishes
from indexer.errors import BuildError, StoreError
from indexer.index import faiss_build, faiss_index, index_rule
from indexer.index.faiss_index import VectorIndex
from indexer.index.selection import Chosen

COUNT, DIM = 2600, 16
IDS = np.arange(COUNT, dtype=np.int64) * 3 + 1


@pytest.fixture(scope="module")
def vectors() -> Any:
    """Vectors of unit length around 40 centres, float32 `[COUNT, DIM]`."""
    rng = np.random.default_rng(1)
    made = rng.standard_normal((40, DIM))[rng.integers(0, 40, COUNT)] + 0.3 * rng.standard_normal(
        (COUNT, DIM)
    )
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


def _build(key: str, vectors: Any) -> VectorIndex:
    def read() -> Iterator[tuple[Any, Any]]:
        for start in range(0, len(vectors), 700):
            yield IDS[start : start + 700][: len(vectors) - start], vectors[start : start + 700]

    added: list[int] = []
    index = faiss_build.build(key, DIM, len(vectors), read, added.append)
    assert sum(added) == len(vectors)
    return index


def _bytes(index: VectorIndex) -> bytes:
    stream = io.BytesIO()
    written = index.write(stream)
    assert written.bytes == len(stream.getvalue())
    return stream.getvalue()


@pytest.mark.parametrize("key", ["IDMap,Flat", "IDMap2,Flat", "Flat", "IVF20,Flat"])
def test_hits_are_those_of_brute_force(key: str, vectors: Any, tmp_path: Path) -> None:
    """After a way through its file, an exact index (or one that visits all lists) finds what numpy finds."""
    path = tmp_path / "index.faiss"
    path.write_bytes(_bytes(_build(key, vectors)))
    index = faiss_index.read_index(path)
    if index.lists:
        index.configure({"nprobe": index.lists})
    queries = vectors[::130] + np.float32(0.01)
    scores, ids = index.search(queries, 7)
    expected = queries @ vectors.T
    order = np.argsort(-expected, axis=1, kind="stable")[:, :7]
    assert np.array_equal(ids, IDS[order])
    assert np.allclose(scores, np.take_along_axis(expected, order, axis=1), atol=1e-5)


@pytest.mark.parametrize(
    "key",
    [
        "IDMap,Flat",
        "IVF20,Flat",
        "HNSW8",
        "SQ8",
        "PCA8,Flat",
        "IVF20,SQ8",
        "IVF20,SQ4",
        "IVF20,PQ4np",
        "IVF20,PQ8x4fs",
        "IVF20,PQ8x4fs,RFlat",
        "IVF20,PQ8x4fs,Refine(SQ8)",
        "OPQ2,IVF8,PQ2x4",
    ],
)
def test_any_key_keeps_the_ids_and_gives_the_same_bytes_again(key: str, vectors: Any) -> None:
    """The ids that come out are those that went in, and building twice is byte-identical."""
    index = _build(key, vectors)
    assert np.array_equal(index.ids(), IDS)
    assert index.count == COUNT
    assert index.dim == DIM
    assert _bytes(index) == _bytes(_build(key, vectors))
    index.configure(index_rule.search_defaults(index.lists, index.graph, index.refined))
    assert index.search(vectors[:1], 1)[1][0, 0] == IDS[0]


@pytest.mark.parametrize("key", ["Flat", "IVF20,Flat", "IVF20,SQ8", "HNSW8"])
def test_a_mapped_file_finds_the_same(key: str, vectors: Any, tmp_path: Path) -> None:
    """An index that stays in its file gives the ids, scores and vectors' ids of one read whole."""
    path = tmp_path / "index.faiss"
    path.write_bytes(_bytes(_build(key, vectors)))
    whole, mapped = faiss_index.read_index(path), faiss_index.read_index(path, mapped=True)
    assert np.array_equal(mapped.ids(), IDS)
    (scores, ids), (mapped_scores, mapped_ids) = (index.search(vectors[:50], 5) for index in (whole, mapped))
    assert np.array_equal(scores, mapped_scores)
    assert np.array_equal(ids, mapped_ids)


@pytest.mark.parametrize(
    "key",
    [
        "Flat",
        "IVF20,Flat",
        "HNSW8",
        "RR16,Flat",
        "RR16,IVF20,Flat",
        "PQ8x4fs",
        "PQ4x4",
        "IVF20,PQ8x4fs,RFlat",
    ],
)
@pytest.mark.parametrize("share", [0.002, 0.05, 0.5, 0.0])
def test_only_the_chosen_are_found_and_of_them_the_nearest(key: str, share: float, vectors: Any) -> None:
    """Few or many or none: kinds with FAISS's selectors and kinds without return the chosen alone.

    Exact kinds find what brute force finds; the default number of lists and candidates is enough for few.
    """
    index = _build(key, vectors)
    index.configure(index_rule.search_defaults(index.lists, index.graph, index.refined))
    mask = np.zeros(IDS.max() + 1, dtype=np.bool_)
    mask[IDS] = np.random.default_rng(4).random(COUNT) < share
    queries, k = vectors[::100] + np.float32(0.01), 7
    scores, ids = index.search(queries, k, Chosen.of(mask, max(share, 1 / COUNT)))
    assert ids.shape == scores.shape == (len(queries), k)
    assert mask[ids[ids >= 0]].all()
    chosen = np.flatnonzero(mask[IDS])
    order = np.argsort(-(queries @ vectors[chosen].T), axis=1, kind="stable")[:, :k]
    expected = IDS[chosen[order]]
    assert (ids[:, expected.shape[1] :] == -1).all()
    exact = key == "Flat" or key.startswith("RR16,F") or (index.graph and share < 0.1)
    if exact or (share < 0.1 and index.lists and not index.refined):
        assert np.array_equal(ids[:, : expected.shape[1]], expected)
    elif expected.size and "PQ" not in key:
        same = [len(set(one) & set(other)) for one, other in zip(ids, expected, strict=True)]
        assert sum(same) >= 0.9 * expected.size


def test_float16_is_searched_as_float32(vectors: Any) -> None:
    """Vectors stored in half precision are indexed as the values they hold."""
    half = vectors.astype(np.float16)
    assert _bytes(_build("Flat", half)) == _bytes(_build("Flat", half.astype(np.float32)))


def test_an_empty_index_finds_nothing(vectors: Any) -> None:
    """An index of no vectors can be built, written and asked."""
    index = _build(index_rule.choose_key("auto", 0, DIM, Wishes()).key, vectors[:0])
    assert index.ids().size == 0
    assert index.search(vectors[:1], 3)[1].tolist() == [[-1, -1, -1]]


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("nonsense", "cannot build index 'nonsense'"),
        ("IVF5000,Flat", r"needs at least 5,000 vectors \(better 195,000\), there are 2,600"),
        ("PQ5", "should be a multiple"),
    ],
)
def test_an_impossible_key_is_one_clear_error(key: str, words: str, vectors: Any) -> None:
    """FAISS's own exception becomes a message that says what to use."""
    with pytest.raises(BuildError, match=rf"(?s){words}.*--index-key") as caught:
        _build(key, vectors)
    assert "\n" not in str(caught.value)


def test_a_damaged_or_missing_file_is_refused(vectors: Any, tmp_path: Path) -> None:
    """Half an index is an error that says how to make it again."""
    path = tmp_path / "index.faiss"
    path.write_bytes(_bytes(_build("Flat", vectors))[:5000])
    for file in (path, tmp_path / "none"):
        with pytest.raises(StoreError, match=f"cannot read FAISS index {file} .*delete CURRENT"):
            faiss_index.read_index(file)


def test_a_full_disk_is_told_as_such(vectors: Any) -> None:
    """An error of the stream passes through FAISS's writer as itself."""

    class Full(io.BytesIO):
        def write(self, data: Any) -> int:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        _build("Flat", vectors).write(Full())
