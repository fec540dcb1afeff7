"""Logits to tags: the best sequence that is valid IOB2. Pure."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from build_models.ner.data import OUTSIDE, is_iob2
from build_models.ner.words import Window


def word_logits(
    windows: Sequence[tuple[Window, NDArray[np.float32]]], words: int, labels: Sequence[str]
) -> NDArray[np.float32]:
    """Returns the logits of each word of a sentence, float32 `[words, labels]`.

    Args:
        windows: The sentence's windows, each with its logits `[tokens, labels]`.
        words: How many words the sentence has.
        labels: The tagger's; a word that is in no window is surely outside.
    """
    logits = np.full((words, len(labels)), -np.inf, dtype=np.float32)
    logits[:, labels.index(OUTSIDE)] = 0
    for window, found in windows:
        logits[window.words] = found[window.places]
    return logits


def best_tags(logits: NDArray[np.float32], labels: Sequence[str]) -> list[str]:
    """Returns the valid sequence of tags with the largest sum of logits (Viterbi).

    Each word's own best tag would do where these are a valid sequence; where one is not (an inside tag that
    nothing began), the strict score would drop the entity.

    Args:
        logits: float32 `[words, labels]`.
        labels: What each place stands for.
    """
    chosen = [labels[place] for place in logits.argmax(axis=1)]
    if all(is_iob2(before, tag) for before, tag in zip((OUTSIDE, *chosen), chosen, strict=False)):
        return chosen
    first, follows = _allowed(tuple(labels))
    best = logits[0] + first
    came_from = np.zeros(logits.shape, dtype=np.int64)
    for word in range(1, len(logits)):
        paths = best[:, None] + follows
        came_from[word] = paths.argmax(axis=0)
        best = paths.max(axis=0) + logits[word]
    place = int(best.argmax())
    backwards = [place]
    for word in range(len(logits) - 1, 0, -1):
        place = int(came_from[word, place])
        backwards.append(place)
    return [labels[place] for place in reversed(backwards)]


@lru_cache(maxsize=8)
def _allowed(labels: tuple[str, ...]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Returns 0 where a label may begin, and where it may follow another `[before, after]`; else -inf."""
    allowed = np.asarray([[is_iob2(before, after) for after in labels] for before in (OUTSIDE, *labels)])
    penalties = np.where(allowed, np.float32(0), np.float32(-np.inf))
    return penalties[0], penalties[1:]
