"""Tags of many sentences by the torch model, in padded batches: for validation, and as the reference."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from build_models.ner.batches import Example, pad
from build_models.ner.decode import best_tags, word_logits
from build_models.ner.model import TorchTagger
from build_models.ner.words import Window
from build_models.progress import progress

_WINDOWS = 32  # of one batch; more pads more; arbitrary


def predict(
    tagger: TorchTagger, sentences: Sequence[Sequence[Window]], words: Sequence[int], label: str
) -> list[list[str]]:
    """Returns the tags of sentences.

    Args:
        tagger: The model.
        sentences: The windows of each.
        words: How many words each has.
        label: What the progress is called.
    """
    places = [(row, place) for row, windows in enumerate(sentences) for place in range(len(windows))]
    places.sort(key=lambda at: len(sentences[at[0]][at[1]].ids))
    logits: dict[tuple[int, int], NDArray[np.float32]] = {}
    with progress(label, len(places), "windows") as advance:
        for start in range(0, len(places), _WINDOWS):
            group = places[start : start + _WINDOWS]
            windows = [sentences[row][place] for row, place in group]
            batch = pad([Example(window.ids, window.ids) for window in windows], tagger.padding_id)
            for at, window, found in zip(group, windows, tagger.logits(batch.ids, batch.mask), strict=True):
                logits[at] = found[: len(window.ids)]
            advance(len(group))
    return [
        best_tags(
            word_logits(
                [(window, logits[row, place]) for place, window in enumerate(windows)], count, tagger.labels
            ),
            tagger.labels,
        )
        for row, (windows, count) in enumerate(zip(sentences, words, strict=True))
    ]
