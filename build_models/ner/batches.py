"""Windows to batches: sorted into lengths so that little is padded, in an order that a seed decides. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from build_models.ner.words import Window

NO_TAG = -100  # what the loss of torch leaves out: pieces after a word's first, special tokens, padding
# Batches that are sorted by length together: more would pad less and mix less; arbitrary.
_SORTED_TOGETHER = 50


@dataclass(frozen=True)
class Example:
    """A window to learn from.

    Attributes:
        ids: Token ids, int64 `[tokens]`.
        targets: Place of each token's label, int64 `[tokens]`; `NO_TAG` where nothing is learned.
    """

    ids: NDArray[np.int64]
    targets: NDArray[np.int64]


@dataclass(frozen=True)
class Batch:
    """Windows side by side.

    Attributes:
        ids: int64 `[windows, tokens]`, padded at the end.
        mask: int64 `[windows, tokens]`, 1 for tokens and 0 for padding.
        targets: int64 `[windows, tokens]`.
    """

    ids: NDArray[np.int64]
    mask: NDArray[np.int64]
    targets: NDArray[np.int64]


def example(window: Window, tags: Sequence[int]) -> Example:
    """Returns what a window teaches, with the label of each word of its sentence."""
    targets = np.full(len(window.ids), NO_TAG, dtype=np.int64)
    targets[window.places] = np.asarray(tags, dtype=np.int64)[window.words]
    return Example(window.ids, targets)


def order(lengths: Sequence[int], size: int, seed: int, epoch: int) -> list[NDArray[np.int64]]:
    """Returns the batches of an epoch as indexes: each index once, the same for equal arguments."""
    chance = np.random.default_rng([seed, epoch])
    shuffled = chance.permutation(len(lengths))
    tokens = np.asarray(lengths)
    batches: list[NDArray[np.int64]] = []
    for start in range(0, len(shuffled), size * _SORTED_TOGETHER):
        chunk = shuffled[start : start + size * _SORTED_TOGETHER]
        chunk = chunk[np.argsort(tokens[chunk], kind="stable")]
        batches += [chunk[first : first + size] for first in range(0, len(chunk), size)]
    return [batches[place] for place in chance.permutation(len(batches))]


def pad(examples: Sequence[Example], padding_id: int) -> Batch:
    """Returns examples as one batch, as long as the longest."""
    shape = (len(examples), max(len(row.ids) for row in examples))
    ids = np.full(shape, padding_id, dtype=np.int64)
    mask = np.zeros(shape, dtype=np.int64)
    targets = np.full(shape, NO_TAG, dtype=np.int64)
    for place, row in enumerate(examples):
        ids[place, : len(row.ids)] = row.ids
        mask[place, : len(row.ids)] = 1
        targets[place, : len(row.ids)] = row.targets
    return Batch(ids, mask, targets)
