"""Counts and scores, compared with seqeval's own metrics; the bootstrap with scipy's."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import bootstrap
from seqeval.metrics import classification_report, f1_score
from seqeval.scheme import IOB2

from build_models.ner.scores import count, f1_loss, quality, score

_TYPES = ("Chemical", "Disease")
_TAGS = st.sampled_from(["O", "O", *(f"{prefix}-{name}" for name in _TYPES for prefix in "BI")])


@st.composite
def _sentences(draw: st.DrawFn) -> tuple[list[list[str]], list[list[str]]]:
    lengths = draw(st.lists(st.integers(1, 12), min_size=1, max_size=8))
    gold = [draw(st.lists(_TAGS, min_size=length, max_size=length)) for length in lengths]
    found = [
        draw(st.one_of(st.just(tags), st.lists(_TAGS, min_size=len(tags), max_size=len(tags))))
        for tags in gold
    ]
    return gold, found


@given(_sentences())
def test_scores_are_those_of_seqeval(sentences: tuple[list[list[str]], list[list[str]]]) -> None:
    """Overall and by type, strict F1 is what seqeval says in strict mode, broken sequences included."""
    gold, found = sentences
    result = quality(count(gold, found, _TYPES), _TYPES, [len(tags) for tags in gold])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of sentences without entities
        assert result.overall.f1 == pytest.approx(f1_score(gold, found, mode="strict", scheme=IOB2))
        if not any(tag != "O" for tags in gold for tag in tags):
            return  # seqeval has no report of nothing
        report = classification_report(gold, found, mode="strict", scheme=IOB2, output_dict=True)
    for name, values in report.items():
        if name in _TYPES:
            found_score = result.types[name]
            assert found_score.precision == pytest.approx(values["precision"])
            assert found_score.recall == pytest.approx(values["recall"])
            assert found_score.f1 == pytest.approx(values["f1-score"])
            assert found_score.entities == values["support"]


def test_strict_means_type_and_both_ends() -> None:
    """An entity of another type, cut short, or begun inside, is wrong."""
    gold = [["B-Chemical", "I-Chemical", "O", "B-Disease", "O", "B-Disease"]]
    found = [["B-Chemical", "O", "O", "B-Chemical", "O", "I-Disease"]]
    counts = count(gold, found, _TYPES)
    assert counts.tolist() == [[[0, 2, 1], [0, 0, 2]]]  # an inside tag that nothing began is no entity


def test_lengths_stand_apart() -> None:
    """Short sentences have a score of their own; buckets without sentences are left out."""
    gold = [["B-Disease"] + ["O"] * 7, ["B-Disease"] + ["O"] * 8]
    found = [gold[0], ["O"] * 9]
    result = quality(count(gold, found, _TYPES), _TYPES, [8, 9])
    assert {name: bucket.f1 for name, bucket in result.lengths.items()} == {
        "≤ 8 words": 1.0,
        "9–16 words": 0.0,
    }
    assert result.overall.f1 == pytest.approx(2 / 3)
    assert [bucket.sentences for bucket in result.lengths.values()] == [1, 1]


def test_no_entity_is_no_division_by_zero() -> None:
    """Where nothing is labelled and nothing found, the scores are 0, as in seqeval."""
    empty = score(count([["O"]], [["O"]], _TYPES))
    assert (empty.precision, empty.recall, empty.f1, empty.entities) == (0, 0, 0, 0)


def _made_up(seed: int, sentences: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    chance = np.random.default_rng(seed)
    gold = chance.integers(0, 4, (sentences, 1))
    both = []
    for rate in (0.8, 0.75):
        right = chance.binomial(gold, rate)
        both.append(np.stack([right, right + chance.binomial(1, 0.2, gold.shape), gold], axis=2))
    return both[0], both[1]


def test_interval_is_that_of_scipy() -> None:
    """The interval of the loss is the paired percentile bootstrap's, as scipy computes it."""
    reference, candidate = _made_up(3, 300)
    rows = np.concatenate([reference[:, 0], candidate[:, 0]], axis=1)

    def loss(drawn: NDArray[np.int64], axis: int) -> NDArray[np.float64]:
        assert axis == -1
        sums = rows[drawn].sum(axis=-2)
        ratios: NDArray[np.float64] = 2 * sums[..., [0, 3]] / (sums[..., [1, 4]] + sums[..., [2, 5]])
        return ratios[..., 0] - ratios[..., 1]

    oracle = bootstrap(
        (np.arange(len(rows)),),
        loss,
        n_resamples=2000,
        method="percentile",
        vectorized=True,
        rng=np.random.default_rng(1),
    ).confidence_interval
    found = f1_loss(reference, candidate, seed=0)
    assert found.value == pytest.approx(score(reference).f1 - score(candidate).f1)
    assert found.low == pytest.approx(oracle.low, abs=0.004)
    assert found.high == pytest.approx(oracle.high, abs=0.004)
    assert found.low < found.value < found.high


def test_same_tags_lose_nothing() -> None:
    """Two taggers that agree have no loss and no interval around it, and the seed decides the rest."""
    reference, candidate = _made_up(4, 50)
    same = f1_loss(reference, reference, seed=0)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    assert f1_loss(reference, candidate, seed=7) == f1_loss(reference, candidate, seed=7)
