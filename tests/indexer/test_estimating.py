"""What an estimate computes from what was measured: pure, so that any pool and any index can be made up."""

import math
import random
from dataclasses import replace
from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.config import AUTO, Wishes
from indexer.errors import PoolError
from indexer.estimating.build_time import build_seconds
from indexer.estimating.forecast import Observation, machines_within, on_machines, unit_count, volume
from indexer.estimating.places import choose_rows
from indexer.estimating.rates import Answered, Rate, steady
from indexer.estimating.sample import Sample
from indexer.estimating.sizes import FileSizes
from indexer.index.index_rule import candidates, choose_key
from indexer.index.memory_rule import Kind, Shape, shape_of
from indexer.plan import InputFile, cut_units

SIZES = FileSizes(unit=2_000, vector=1_600, receipt=500, rejects=900, reject=30, plan=700, planned=100)
ZEN3_FLOPS = 78e9  # of a core in numpy's product, where FAISS's builds were timed

groups = st.lists(st.lists(st.integers(0, 60), min_size=1, max_size=5), min_size=1, max_size=6)
shares = st.floats(0, 0.9, allow_subnormal=False)


def files_of(rows: list[list[int]]) -> list[InputFile]:
    """Returns files with row groups of so many rows."""
    return [InputFile(f"/{number}", 1, 0, tuple(some)) for number, some in enumerate(rows)]


@st.composite
def observations(draw: st.DrawFn) -> Observation:
    """Draws pools of any speed, and documents of any kind."""
    mean = draw(st.floats(0.1, 1e5, allow_subnormal=False))
    rejected = draw(shares)
    return Observation(
        processes=draw(st.integers(1, 64)),
        documents=Rate(
            mean,
            mean * draw(st.floats(0.5, 1, allow_subnormal=False)),
            mean * draw(st.floats(1, 2, allow_subnormal=False)),
        ),
        vectors_each=draw(st.floats(1, 20, allow_subnormal=False)),
        rejected=rejected,
        unsent=rejected * draw(shares),
        sizes=SIZES,
        driver_seconds=draw(st.floats(1e-6, 1e-2, allow_subnormal=False)),
    )


@given(groups, st.integers(1, 80), st.integers(0, 2**32))
def test_a_sample_is_of_rows_that_are_there_each_once(rows: list[list[int]], wanted: int, seed: int) -> None:
    """Blocks lie in their file, in order, apart; they are as many rows as asked for at most, and some."""
    files = files_of(rows)
    total = sum(file.rows for file in files)
    found = choose_rows(files, wanted, seed)
    assert found == choose_rows(files, wanted, seed)
    assert all(unit.rows > 0 and unit.stop <= files[unit.file].rows for unit in found)
    places = [(unit.file, unit.start, unit.stop) for unit in found]
    assert all(a[0] < b[0] or a[2] <= b[1] for a, b in pairwise(places))
    taken = sum(unit.rows for unit in found)
    assert taken == total if total <= wanted else min(1, total) <= taken <= wanted
    assert [unit.base for unit in found] == [sum(one.rows for one in found[:at]) for at in range(len(found))]


def test_a_sample_is_of_all_files_and_row_groups() -> None:
    """Never only the first rows: of a hundred files of ten row groups each has its share."""
    files = [InputFile(f"/{number}", 1, 0, (1_000,) * 10) for number in range(100)]
    found = choose_rows(files, 8_000, 7)
    assert {unit.file for unit in found} == set(range(100))
    tenths = [sum(1 for unit in found if unit.start // 1_000 == tenth) for tenth in range(10)]
    assert min(tenths) > 0.7 * len(found) / 10


def test_a_sample_reads_few_places_of_huge_row_groups() -> None:
    """What is read is bounded: a billion rows in row groups of a million give some dozens of places."""
    files = [InputFile(f"/{number}", 1, 0, (1_000_000,) * 10) for number in range(100)]
    found = choose_rows(files, 10_000, 7)
    assert len(found) == 64
    assert 9_000 < sum(unit.rows for unit in found) <= 10_000


def test_a_sample_goes_round_unless_it_is_all_there_is() -> None:
    """A pool that eats more than the sample gets it again, as new units; a whole input is embedded once."""
    rows = tuple((f"{number}".encode(), (b"text",)) for number in range(5))
    units = [chunk.unit for chunk in Sample(rows, 5, 1, 1).chunks(2)]
    assert [(unit.number, unit.start, unit.rows) for unit in units] == [(0, 0, 2), (1, 2, 2), (2, 4, 1)]
    endless = Sample(rows, 6, 1, 1).chunks(2)
    assert [next(endless).first_row for _ in range(6)] == [0, 2, 4, 5, 7, 9]


@given(st.lists(st.integers(0, 50), min_size=1, max_size=6), st.integers(1, 20), st.integers(0, 400))
def test_units_are_counted_as_a_plan_cuts_them(rows: list[int], unit_rows: int, documents: int) -> None:
    """Up to the rows of the inputs the count is the plan's own; beyond, the files come again."""
    whole = sum(rows)
    many = rows * (documents // whole + 1) if whole else []
    expected = sum(1 for _ in cut_units(many, unit_rows, documents)) if whole else 0
    assert unit_count(documents, tuple(rows), unit_rows) == expected


@given(observations(), st.integers(1, 10**9), st.integers(1, 10**6))
def test_more_documents_never_take_less(seen: Observation, documents: int, more: int) -> None:
    """Bytes, units, files and seconds rise with documents."""
    few, many = (volume(seen, count, (100_000, 7), 2048) for count in (documents, documents + more))
    for name in ("sent", "rejects", "vectors", "units", "files", "plan_bytes", "receipt_bytes"):
        assert getattr(few, name) <= getattr(many, name), name
    assert few.unit_bytes <= many.unit_bytes
    assert on_machines(seen, few, 3, 4, 1.0).total <= on_machines(seen, many, 3, 4, 1.0).total
    assert few.vectors + few.rejects <= max(1, math.ceil(few.documents * max(1.0, seen.vectors_each)))


@given(
    observations(),
    st.integers(1, 10**9),
    st.integers(1, 1000),
    st.integers(1, 64),
    st.floats(0, 1e5, allow_subnormal=False),
)
def test_twice_the_machines_take_half_the_time_to_embed(
    seen: Observation, documents: int, machines: int, cores: int, alone: float
) -> None:
    """What one process does alone stays; the interval is about the mean."""
    much = volume(seen, documents, (documents,), 2048)
    once, twice = (on_machines(seen, much, count, cores, alone) for count in (machines, 2 * machines))
    assert twice.embed == pytest.approx([seconds / 2 for seconds in once.embed])
    assert twice.alone == once.alone == alone
    assert once.total[1] <= once.total[0] <= once.total[2]
    assert once.drivers <= twice.drivers <= 2 * once.drivers


@given(
    observations(),
    st.integers(1, 10**9),
    st.integers(1, 64),
    st.floats(0, 1e5, allow_subnormal=False),
    st.floats(1, 1e7, allow_subnormal=False),
)
def test_the_machines_for_a_deadline_are_the_fewest(
    seen: Observation, documents: int, cores: int, alone: float, deadline: float
) -> None:
    """They are done in time at the slow end of the interval, one fewer are not; None where none can be."""
    much = volume(seen, documents, (documents,), 2048)
    found = machines_within(seen, much, deadline, cores, alone)
    if found is None:
        assert deadline <= alone
        return
    assert on_machines(seen, much, found, cores, alone).total[2] <= deadline
    if found > 1:
        before = on_machines(seen, much, found - 1, cores, alone).total[2]
        assert before > deadline or before == pytest.approx(deadline)


@given(st.integers(4, 200), st.integers(1, 64), st.floats(0.01, 10, allow_subnormal=False), st.integers(0, 8))
def test_a_steady_pool_has_its_rate(answers: int, documents: int, gap: float, warm_up: int) -> None:
    """Answers at equal distance have one rate and no interval, wherever the slices lie."""
    found = steady([Answered(5 + gap * at, documents, 10 * documents) for at in range(answers)], warm_up)
    assert found.documents.mean == pytest.approx(documents / gap)
    assert found.documents.low == pytest.approx(found.documents.high, rel=1e-6)
    assert found.tokens.mean == pytest.approx(10 * documents / gap)


def test_a_warm_up_does_not_count_and_doubt_shows() -> None:
    """A slow start is left out; a pool whose speed varies has an interval about the mean."""
    dice = random.Random(3)
    times = list(accumulate([10.0] * 4 + [dice.choice([1.0, 1.6]) for _ in range(200)]))
    found = steady([Answered(time, 64, 640) for time in times], 4)
    assert 64 / 1.6 < found.documents.low < found.documents.mean < found.documents.high < 64
    assert found.documents.mean == pytest.approx(64 * 199 / (times[-1] - times[4]))


@pytest.mark.parametrize("count", [0, 1, 3])
def test_too_few_answers_are_no_measurement(count: int) -> None:
    """The message says what to do: more time or more documents."""
    with pytest.raises(PoolError, match="give more --seconds"):
        steady([Answered(float(at), 64, 640) for at in range(count)], 3)


@given(st.integers(1, 10**9), st.sampled_from([64, 384, 768, 1024, 333]))
def test_every_key_of_the_rule_is_known_by_its_name(count: int, dim: int) -> None:
    """What `auto` may take can be read back from its key, so its memory is known; another key is not."""
    for wishes in (Wishes(), Wishes(max_query_ms=0.01), Wishes(target_recall=0.99)):
        for shape in candidates(count, dim, wishes):
            assert shape_of(shape.key) == shape
    assert shape_of("OPQ64,IVF100,PQ64") is None


def test_build_times_are_those_that_were_measured() -> None:
    """A million vectors on two cores of Zen 3 took 35 and 112 seconds (`tests/bench/index_scale`)."""
    for lists, measured in ((2_000, 35), (4_000, 112)):
        shape = Shape(Kind.FAST_FLAT, lists, 96)
        assert build_seconds(shape, 1_000_000, 384, 2, ZEN3_FLOPS) == pytest.approx(measured, rel=0.1)


@given(st.integers(1, 10**9), st.integers(1, 10**6))
def test_larger_indexes_take_longer(count: int, more: int) -> None:
    """With the same lists; and the rule's own choice takes longer as an index grows a thousandfold."""
    for kind in Kind:
        shape = Shape(kind, 0 if kind in (Kind.FLAT, Kind.HNSW) else 100, 96 if "PQ" in kind else 0)
        few, many = (build_seconds(shape, size, 384, 2, ZEN3_FLOPS) for size in (count, count + more))
        assert 0 < few <= many
    if count >= 20_000:
        chosen = [shape_of(choose_key(AUTO, size, 384, Wishes()).key) for size in (count, 1000 * count)]
        times = [
            build_seconds(one, size, 384, 2, ZEN3_FLOPS)
            for one, size in zip(chosen, (count, 1000 * count), strict=True)
            if one is not None
        ]
        assert times[0] < times[1]


def test_rejects_take_files_only_where_there_are_some() -> None:
    """An input without bad rows has two files a unit; with one bad row in ten, three."""
    seen = Observation(2, Rate(60, 58, 62), 1.0, 0.0, 0.0, SIZES, 1e-4)
    assert volume(seen, 20_480, (20_480,), 2_048).files == 20
    bad = volume(replace(seen, rejected=0.1, unsent=0.1), 20_480, (20_480,), 2_048)
    assert (bad.files, bad.rejects, bad.vectors, bad.sent) == (30, 2_048, 18_432, 18_432)
