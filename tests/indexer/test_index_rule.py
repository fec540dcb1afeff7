"""The choice of an index: pure rules under Hypothesis, and the formulas against FAISS's own sizes."""

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.config import Wishes
from indexer.errors import ConfigError
from indexer.index import faiss_build, index_rule
from indexer.index.index_rule import candidates, choose_key, keep_or_choose, query_ms
from indexer.index.memory_rule import Kind, Shape, as_size, parse_bytes

NOTHING = Wishes()
counts = st.integers(0, 10**9)
dims = st.sampled_from([8, 30, 32, 100, 384, 768, 1024, 4096])
recalls = st.none() | st.floats(0.01, 1, allow_subnormal=False)
times = st.none() | st.floats(0.01, 1000, allow_subnormal=False)


def _chosen(count: int, dim: int, wishes: Wishes) -> Shape:
    key = choose_key("auto", count, dim, wishes).key
    (shape,) = [shape for shape in candidates(count, dim, wishes) if shape.key == key]
    return shape


def _least(count: int, dim: int, wishes: Wishes) -> int:
    return min(shape.bytes(count, dim) for shape in candidates(count, dim, wishes))


@given(counts, dims)
def test_without_wishes_every_list_gets_enough_points(count: int, dim: int) -> None:
    """`auto` is exact for few vectors; above, each list has the 39 points that training wants."""
    shape = _chosen(count, dim, NOTHING)
    if count <= 10_000:
        assert shape.key == "IDMap,Flat"
        return
    assert shape.kind is (Kind.FAST_FLAT if dim % 4 == 0 else Kind.IVF_FLAT)
    assert 39 * shape.lists <= count
    assert shape.lists <= 4 * count**0.5 + 1
    assert 39 * shape.lists <= index_rule.sample_size(shape.lists, count) <= count
    assert 1 <= index_rule.probes(shape.lists) <= shape.lists


@given(counts, dims, st.integers(1, 10**13), recalls, times)
def test_the_choice_fits_or_the_refusal_says_what_does(
    count: int, dim: int, memory: int, recall: float | None, ms: float | None
) -> None:
    """No choice takes more than is allowed, and the memory that a refusal names is enough, and the least."""
    wishes = Wishes(memory, recall, ms)
    least = _least(count, dim, wishes)
    if least <= memory:
        assert _chosen(count, dim, wishes).bytes(count, dim) <= memory
        return
    with pytest.raises(ConfigError, match=f"--max-index-memory-usage {least} or more") as caught:
        choose_key("auto", count, dim, wishes)
    assert "\n" not in str(caught.value)
    assert _chosen(count, dim, Wishes(least, recall, ms)).bytes(count, dim) == least


@given(
    counts,
    dims,
    st.tuples(st.floats(1, 3000, allow_subnormal=False), st.floats(1, 3000, allow_subnormal=False)),
    recalls,
    times,
)
def test_more_memory_never_gives_a_smaller_index(
    count: int, dim: int, shares: tuple[float, float], recall: float | None, ms: float | None
) -> None:
    """A larger allowance is used or left, but never answered with fewer bytes for a vector."""
    least = _least(count, dim, Wishes(None, recall, ms))
    sizes = [
        _chosen(count, dim, Wishes(max(1, int(least * share)) + 1, recall, ms)).bytes(count, dim)
        for share in sorted(shares)
    ]
    assert sizes[0] <= sizes[1]


@given(counts, dims, recalls, times)
def test_unlimited_memory_is_the_same_as_very_much(
    count: int, dim: int, recall: float | None, ms: float | None
) -> None:
    """No limit is a limit that nothing reaches."""
    assert _chosen(count, dim, Wishes(None, recall, ms)) == _chosen(count, dim, Wishes(10**18, recall, ms))


@given(counts, dims, st.floats(0.01, 1, allow_subnormal=False), st.floats(0.01, 1, allow_subnormal=False))
def test_a_higher_recall_is_never_expected_in_less_time(
    count: int, dim: int, one: float, other: float
) -> None:
    """The estimate of a query's time rises with the recall that is asked for, for every kind."""
    low, high = Wishes(target_recall=min(one, other)), Wishes(target_recall=max(one, other))
    lists = index_rule.list_count(count)
    for shape in (
        Shape(Kind.FLAT),
        Shape(Kind.HNSW),
        Shape(Kind.IVF_FLAT, lists),
        Shape(Kind.IVF_SQ8, lists),
        Shape(Kind.FAST_FLAT, lists, 1),
    ):
        assert query_ms(shape, count, dim, low) <= query_ms(shape, count, dim, high)


@pytest.mark.parametrize(
    ("count", "wishes", "key", "words"),
    [
        (9_000, NOTHING, "IDMap,Flat", "exact search, up to 10,000"),
        (1_000_000, NOTHING, "IVF2000,PQ192x4fs,RFlat", "1.65 GB in memory; 2√N lists, 224 of them searched"),
        (1_000_000, Wishes(1_600_000_000), "IVF4000,Flat", "(IVF-FastScan-Flat needs 1.65 GB)"),
        (1_000_000, Wishes(600_000_000), "IVF2000,PQ192x4fs,Refine(SQ8)", "(IVF-Flat needs 1.55 GB)"),
        (1_000_000, Wishes(500_000_000), "IVF4000,SQ8", "500 MB allowed (IVF-FastScan-SQ8 needs 502 MB)"),
        (1_000_000, Wishes(300_000_000), "IVF4000,SQ4", "(IVF-SQ8 needs 398 MB)"),
        (1_000_000, Wishes(150_000_000), "IVF4000,PQ96np", "(IVF-SQ4 needs 206 MB)"),
        (1_000_000, Wishes(70_000_000), "IVF4000,PQ48np", ""),
        (9_000, Wishes(5_000_000), "IVF230,SQ8", "230 lists"),
        (1_000_000, Wishes(None, 0.95), "IVF2000,PQ192x4fs,RFlat", "tuned when built"),
        (50_000_000, Wishes(None, 0.95, 2), "HNSW32", "a graph, because lists would take longer than 2 ms"),
        (1_000_000, Wishes(None, None, 0.5), "HNSW32", "a graph"),
        (50_000_000, Wishes(8 * 10**10, None, 400), "IVF28284,Flat", ""),
        (20_000, Wishes(None, 1.0), "IDMap,Flat", "exact search"),
    ],
)  # fmt: skip
def test_cases_that_documents_show(count: int, wishes: Wishes, key: str, words: str) -> None:
    """Each kind has a case that asks for it, and the reason says why in one line."""
    choice = choose_key("auto", count, 384, wishes)
    assert choice.key == key
    assert words in choice.reason
    assert "\n" not in choice.reason


@given(
    st.integers(1, 10**8),
    st.floats(0.01, 100, allow_subnormal=False),
    st.sampled_from([384, 30]),
    st.none() | st.just(10**9),
)
def test_an_index_that_grows_keeps_its_key_for_long(
    planned: int, growth: float, dim: int, memory: int | None
) -> None:
    """Up to four times the vectors, or a quarter, the key stands if it fits; beyond, it is chosen anew."""
    wishes, count = Wishes(memory), max(1, round(planned * growth))
    if max(_least(planned, dim, wishes), _least(count, dim, wishes)) > (memory or 10**18):
        return
    shape, new = _chosen(planned, dim, wishes), choose_key("auto", count, dim, wishes).key
    kept = keep_or_choose(shape.key, planned, "auto", count, dim, wishes).key
    stays = planned / 4 <= count <= 4 * planned and shape.bytes(count, dim) <= (memory or 10**18)
    assert kept == (shape.key if stays else new)
    assert keep_or_choose(shape.key, planned, "HNSW8", count, dim, wishes).key == "HNSW8"


def test_other_wishes_choose_another_key() -> None:
    """An index that was chosen without a limit is not kept where one is given that it passes."""
    key = choose_key("auto", 100_000, 384, NOTHING).key
    assert keep_or_choose(key, 100_000, "auto", 100_001, 384, NOTHING).key == key
    assert "SQ8" in keep_or_choose(key, 100_000, "auto", 100_001, 384, Wishes(70_000_000)).key


def test_an_asked_key_is_taken_as_it_is() -> None:
    """Only `auto` is decided by number, memory and wishes."""
    assert choose_key("HNSW8", 5, 384, Wishes(1)).key == "HNSW8"


@pytest.fixture(scope="module")
def vectors() -> Any:
    """Random vectors, float32 `[2_600, 32]`."""
    return np.random.default_rng(0).standard_normal((2_600, 32)).astype(np.float32)


@pytest.mark.parametrize(
    "shape",
    [
        Shape(Kind.FLAT),
        Shape(Kind.HNSW),
        Shape(Kind.IVF_FLAT, 16),
        Shape(Kind.IVF_SQ8, 16),
        Shape(Kind.IVF_SQ4, 16),
        Shape(Kind.IVF_PQ, 16, 4),
        Shape(Kind.FAST_FLAT, 16, 8),
        Shape(Kind.FAST_SQ8, 16, 8),
    ],
    ids=str,
)
def test_formulas_are_the_sizes_of_faiss(shape: Shape, vectors: Any) -> None:
    """The bytes that the rule counts are those of a real index of that key, within 2 %."""
    count, dim = vectors.shape
    ids = np.arange(count, dtype=np.int64)
    index = faiss_build.build(shape.key, dim, count, lambda: iter([(ids, vectors)]), lambda _: None)
    written = index.write(io.BytesIO()).bytes
    assert shape.bytes(count, dim) == pytest.approx(written, rel=0.02)


@pytest.mark.parametrize(
    ("text", "size"),
    [("4GB", 4 * 10**9), ("512 MiB", 512 << 20), ("1.5g", 1_500_000_000), ("77", 77), (".5kb", 500)],
)
def test_sizes_are_read(text: str, size: int) -> None:
    """A number with a unit, of ten or of two, or of bytes."""
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "4 parsecs", "0", "0.1b", "4GB2", "nan"])
def test_what_is_no_size_is_refused(text: str) -> None:
    """The message shows how sizes are written."""
    with pytest.raises(ConfigError, match="for example 4GB"):
        parse_bytes(text)


@given(st.integers(1, 10**15))
def test_a_size_reads_back_as_written(size: int) -> None:
    """What a message shows can be typed in again, to three digits."""
    shown = as_size(size).replace(",", "").replace("bytes", "b")
    assert parse_bytes(shown) == pytest.approx(size, rel=0.006)


@pytest.mark.parametrize("wrong", [{"target_recall": 0}, {"target_recall": 1.1}, {"max_query_ms": 0}])
def test_impossible_wishes_are_refused(wrong: dict[str, float]) -> None:
    """Wishes outside their range are wrong usage."""
    with pytest.raises(ConfigError, match="wanted above 0"):
        Wishes(**wrong)  # type: ignore[arg-type]
