"""The gate as a decision: what passes, what is refused, and in which words."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from build_models.errors import BuildError
from build_models.quality.bootstrap import retention_bound
from build_models.quality.figures import Cosines, Invariance, Mixed, MixedQuality, SetQuality
from build_models.quality.gate import Gate, refusal

PERFECT = (1.0,) * 6
shares = st.floats(0, 1.2, allow_nan=False, allow_subnormal=False)
figures = st.tuples(shares, shares, shares, shares, shares, shares)
sixteenths = st.integers(0, 16).map(lambda count: count / 16)  # nDCG has no values next to zero
gates = st.builds(Gate, *[st.floats(0, 1, allow_nan=False, allow_subnormal=False)] * 4)


def _quality(figures: tuple[float, ...], name: str = "made") -> SetQuality:
    """A set's quality of six figures that the gate looks at."""
    retention, bound, first, second, overlap, cosine = figures
    mixed = zip(Mixed, (first, second), strict=True)
    return SetQuality(
        name=name,
        documents=1000,
        queries=300,
        reference={"nDCG@10": 0.5},
        candidate={"nDCG@10": 0.5 * retention},
        retention=retention,
        bound=bound,
        overlap=overlap,
        mixed=tuple(MixedQuality(half, 0.5 * share, share, 0.9) for half, share in mixed),
        document_cosines=Cosines(cosine, cosine, cosine),
        query_cosines=Cosines(1, 1, 1),
        buckets=(),
    )


@given(st.lists(st.tuples(figures, figures), min_size=1, max_size=4), gates)
def test_better_is_never_refused_where_worse_passes(
    pairs: list[tuple[tuple[float, ...], tuple[float, ...]]], gate: Gate
) -> None:
    """A candidate at least as good in every figure of every set passes wherever the other does."""
    worse = [_quality(tuple(map(min, *pair))) for pair in pairs]
    better = [_quality(tuple(map(max, *pair))) for pair in pairs]
    if refusal(worse, gate) is None:
        assert refusal(better, gate) is None


@given(st.lists(figures, min_size=1, max_size=5), gates)
def test_the_worst_set_decides(sets: list[tuple[float, ...]], gate: Gate) -> None:
    """Several sets pass only if each passes alone, in whatever order they come."""
    qualities = [_quality(values, f"set{n}") for n, values in enumerate(sets)]
    alone = [refusal([quality], gate) for quality in qualities]
    together = refusal(qualities, gate)
    assert (together is None) == all(reason is None for reason in alone)
    assert together in alone
    assert (refusal(qualities[::-1], gate) is None) == (together is None)


@given(figures, gates, gates)
def test_asking_less_refuses_no_more(values: tuple[float, ...], one: Gate, other: Gate) -> None:
    """A gate that asks at most as much passes whatever the stricter one passes."""
    strict = Gate(*(max(getattr(one, name), getattr(other, name)) for name in Gate.__dataclass_fields__))
    if refusal([_quality(values)], strict) is None:
        assert refusal([_quality(values)], one) is None


@pytest.mark.parametrize(
    ("at", "value", "words"),
    [
        (0, 0.9, "nDCG@10 on made falls from 0.5000 to 0.4500, share kept: 0.9000, 0.9900 wanted by --min-r"),
        (1, 0.97, "its 300 queries only show a lower 95 % bound of: 0.9700, 0.9800 wanted by --min-bound"),
        (2, 0.9, "with fp32-documents falls from 0.5000 to 0.4500, share kept: 0.9000, 0.9800 wanted"),
        (3, 0.9, "with fp32-queries falls from 0.5000 to 0.4500, share kept: 0.9000, 0.9800 wanted"),
        (4, 0.8, "the ten best on made are not FP32's, overlap@10: 0.8000, 0.9000 wanted by --min-overlap"),
        (5, -1.0, "turn away from FP32's, mean cosine: -1.0000, 0.9500 wanted by --min-cosine"),
        (0, math.nan, "share kept: nan, 0.9900 wanted"),
    ],
)
def test_a_refusal_names_set_measure_and_figures(at: int, value: float, words: str) -> None:
    """Each figure alone refuses, and the message says which option asked for more; no number is no pass."""
    gate = Gate(min_overlap=0.9)
    assert refusal([_quality(PERFECT)], gate) is None
    reason = refusal([_quality((*PERFECT[:at], value, *PERFECT[at + 1 :]))], gate)
    assert reason is not None
    assert words in reason


def test_of_several_sets_the_worst_is_named() -> None:
    """The message is about the set that lost most, not the first that lost."""
    qualities = [_quality((value, *PERFECT[1:]), f"set{value}") for value in (0.97, 0.95, 0.96)]
    reason = refusal(qualities, Gate())
    assert reason is not None
    assert "on set0.95 falls" in reason


def test_what_is_not_invariant_is_refused() -> None:
    """One text whose vector depends on where it was made is enough, however good the ranking."""
    sound = Invariance(texts=40, changed=0, cosine=1.0)
    assert refusal([_quality(PERFECT)], Gate(), sound) is None
    reason = refusal([_quality(PERFECT)], Gate(), replace(sound, changed=1, cosine=0.999))
    assert reason is not None
    assert "1 of 40 texts got another vector in another process" in reason


def test_no_set_is_no_pass() -> None:
    """A gate without a measured set is a mistake of the caller, never a pass."""
    with pytest.raises(ValueError, match="at least one measured set"):
        refusal([], Gate())


@pytest.mark.parametrize("name", ["min_retention", "min_bound", "min_cosine", "min_overlap"])
@pytest.mark.parametrize("value", [-0.1, 1.5, math.nan])
def test_thresholds_are_shares(name: str, value: float) -> None:
    """A threshold that is no share is refused wherever a gate is made, by the name of its option."""
    with pytest.raises(BuildError, match=f"{name.replace('_', '-')} is {value}, wanted"):
        Gate(**{name: value})


def test_bound_against_an_exact_one() -> None:
    """Where FP32 answers every query, draws of hits and misses are binomial, and so is their percentile."""
    found = np.r_[np.ones(470), np.zeros(30)]
    exact = float(binom.ppf(0.05, 500, 0.94)) / 500
    assert retention_bound(np.ones(500), found) == pytest.approx(exact, abs=1.5 / 500)


def test_bound_is_paired() -> None:
    """Queries are drawn together: what is hard for both models widens nothing."""
    chance = np.random.default_rng(1)
    reference = chance.random(400)
    assert retention_bound(reference, 0.97 * reference) == pytest.approx(0.97)
    shuffled = chance.permutation(0.97 * reference)
    assert retention_bound(reference, shuffled) < 0.95


@given(st.lists(st.tuples(sixteenths, sixteenths), min_size=2, max_size=40), sixteenths)
def test_bound_is_no_higher_for_a_worse_candidate(pairs: list[tuple[float, float]], part: float) -> None:
    """A candidate that is nowhere better has no better bound; the same figures always give the same."""
    reference, candidate = (np.array(values) for values in zip(*pairs, strict=True))
    reference[0] = 1
    bound = retention_bound(reference, candidate)
    assert retention_bound(reference, part * candidate) <= bound + 1e-12
    assert retention_bound(reference, candidate) == bound


def test_bound_of_few_queries() -> None:
    """One query, or a set that FP32 answers once, gives a number: the cautious one."""
    assert retention_bound(np.ones(1), np.array([0.5])) == 0.5
    assert retention_bound(np.r_[1.0, np.zeros(9)], np.r_[1.0, np.zeros(9)]) == 0
