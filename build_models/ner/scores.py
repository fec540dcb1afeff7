"""Strict F1 of entities: an entity counts only if its type and both its ends are right.

What an entity is says seqeval (strict mode, IOB2). Counts are kept for each sentence, so that an F1 of any
group of sentences is a sum, and sentences can be drawn again for a bootstrap.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from seqeval.scheme import IOB2, Entities

# Sentences by their words: short ones give a tagger little to go by.
BUCKETS: Mapping[str, tuple[int, int]] = {
    "≤ 8 words": (1, 8),
    "9–16 words": (9, 16),
    "17–32 words": (17, 32),
    "> 32 words": (33, 1_000_000),
}
_RESAMPLES = 2000  # of the bootstrap: its bounds then move in the fourth digit; arbitrary
_DRAWN_AT_ONCE = 100  # resamples: 4 MB of weights for 5,000 sentences; arbitrary

# int64 `[sentences, types, 3]`: entities found and right, found, and in the gold labels.
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Score:
    """Precision, recall and F1 of some sentences; 0 where nothing is there to divide by, as in seqeval.

    Attributes:
        precision: Share of the found entities that is right.
        recall: Share of the gold entities that was found.
        f1: Their harmonic mean.
        entities: Gold entities.
        sentences: Sentences counted.
    """

    precision: float
    recall: float
    f1: float
    entities: int
    sentences: int


@dataclass(frozen=True)
class Quality:
    """What a tagger reaches on a set.

    Attributes:
        overall: Over all entities (the micro average).
        types: Type of entity to its score.
        lengths: Name of a bucket of `BUCKETS` to the score of its sentences; empty ones are left out.
    """

    overall: Score
    types: Mapping[str, Score]
    lengths: Mapping[str, Score]


@dataclass(frozen=True)
class Loss:
    """What a tagger's F1 is below another's on the same sentences, absolute.

    Attributes:
        value: The difference; below 0 where it gained.
        low: Lower end of its 95 % interval, by the paired bootstrap over sentences.
        high: Upper end.
    """

    value: float
    low: float
    high: float


def count(gold: Sequence[Sequence[str]], found: Sequence[Sequence[str]], types: Sequence[str]) -> Counts:
    """Returns the counts of each sentence by type of entity; types that are not in `types` are left out."""
    places = {name: index for index, name in enumerate(types)}
    counts = np.zeros((len(gold), len(types), 3), dtype=np.int64)
    wanted_entities = Entities([list(tags) for tags in gold], scheme=IOB2).entities
    found_entities = Entities([list(tags) for tags in found], scheme=IOB2).entities
    for row, (wanted, got) in enumerate(zip(wanted_entities, found_entities, strict=True)):
        for column, entities in enumerate((set(wanted) & set(got), got, wanted)):
            for entity in entities:
                if entity.tag in places:
                    counts[row, places[entity.tag], column] += 1
    return counts


def score(counts: Counts) -> Score:
    """Returns the score of the sentences and types in `counts`, all together."""
    right, found, gold = (int(value) for value in counts.sum(axis=(0, 1)))
    return Score(
        precision=right / found if found else 0.0,
        recall=right / gold if gold else 0.0,
        f1=float(_f1(np.asarray([right, found, gold]))),
        entities=gold,
        sentences=len(counts),
    )


def quality(counts: Counts, types: Sequence[str], words: Sequence[int]) -> Quality:
    """Returns the scores of a set: overall, for each type, and by the words of each sentence."""
    lengths = np.asarray(words)
    buckets = {
        name: counts[(first <= lengths) & (lengths <= last)] for name, (first, last) in BUCKETS.items()
    }
    return Quality(
        overall=score(counts),
        types={name: score(counts[:, index : index + 1]) for index, name in enumerate(types)},
        lengths={name: score(inside) for name, inside in buckets.items() if len(inside)},
    )


def f1_loss(reference: Counts, candidate: Counts, seed: int) -> Loss:
    """Returns how far a candidate's F1 lies below the reference's on the same sentences.

    F1 is a ratio of sums, so each resample draws sentences and sums the counts of both taggers on them
    (the paired bootstrap; Efron and Tibshirani 1993, percentile interval).
    """
    pairs = np.concatenate([reference.sum(axis=1), candidate.sum(axis=1)], axis=1)  # [sentences, 6]
    chance = np.random.default_rng(seed)
    losses: list[float] = []
    for _ in range(_RESAMPLES // _DRAWN_AT_ONCE):
        weights = chance.multinomial(len(pairs), np.full(len(pairs), 1 / len(pairs)), _DRAWN_AT_ONCE)
        sums = weights @ pairs
        losses.extend(_f1(sums[:, :3]) - _f1(sums[:, 3:]))
    low, high = np.quantile(losses, [0.025, 0.975])
    return Loss(score(reference).f1 - score(candidate).f1, float(low), float(high))


def _f1(sums: NDArray[np.int64]) -> NDArray[np.float64]:
    """Returns 2 right / (found + gold) along the last axis; 0 where both are 0."""
    total = sums[..., 1] + sums[..., 2]
    result: NDArray[np.float64] = 2 * sums[..., 0] / np.maximum(total, 1)
    return result
