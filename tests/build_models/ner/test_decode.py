"""Logits to tags: valid, and the best of all that are valid."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from build_models.ner.data import is_iob2
from build_models.ner.decode import best_tags, word_logits
from build_models.ner.words import Window

_LABELS = ("I-B", "O", "B-A", "I-A", "B-B")  # in no order: a model may have any


def _valid(tags: tuple[str, ...]) -> bool:
    return all(is_iob2(before, tag) for before, tag in zip(("O", *tags), tags, strict=False))


@given(
    arrays.arrays(
        np.float32,
        st.tuples(st.integers(1, 4), st.just(5)),
        elements=st.floats(-5, 5, width=16, allow_subnormal=False),
    )
)
def test_tags_are_the_best_valid_ones(logits: NDArray[np.float32]) -> None:
    """No valid sequence has a larger sum of logits than the one chosen."""
    tags = tuple(best_tags(logits, _LABELS))
    assert _valid(tags)

    def total(sequence: tuple[str, ...]) -> float:
        return float(sum(row[_LABELS.index(tag)] for row, tag in zip(logits, sequence, strict=True)))

    best = max(total(sequence) for sequence in product(_LABELS, repeat=len(logits)) if _valid(sequence))
    assert total(tags) == pytest.approx(best, abs=1e-5)


def test_words_of_windows_come_back_in_place() -> None:
    """Each word's logits are those of its first piece; a word in no window is surely outside."""
    found = np.arange(10, dtype=np.float32).reshape(5, 2)
    window = Window(ids=np.zeros(5, np.int64), places=np.array([1, 3]), words=np.array([0, 2]))
    logits = word_logits([(window, found)], 3, ("O", "B-A"))
    assert logits.tolist() == [[2, 3], [0, -np.inf], [6, 7]]
    assert best_tags(logits, ("O", "B-A")) == ["B-A", "O", "B-A"]
