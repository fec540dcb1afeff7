"""Queries of exactly one length, cut from real text: what every row of the table is timed with."""

from collections.abc import Iterable, Iterator
from itertools import cycle, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from build_models.errors import EvaluationError
from worker.tokenizer import Tokenizer

_TRIES = 4  # stretches of text that may be drawn for each query wanted; arbitrary


def exact_queries(texts: Iterable[str], count: int, tokens: int, tokenizer: Path) -> NDArray[np.int64]:
    """Returns token ids `[count, tokens]`: consecutive stretches of the texts, cut at `tokens`.

    A stretch has as many words as there are tokens, and a word has a token at least, so that nearly all are
    long enough. Texts with too few words are gone through again.

    Raises:
        EvaluationError: The texts have no words, or the tokenizer makes too little of them.
    """
    words = [word for text in texts for word in text.split()]
    if not words:
        raise EvaluationError("there is no text to time queries with: the evaluation data has no words")
    reader = Tokenizer(tokenizer, tokens)
    found = [
        encoded.ids
        for encoded in reader.encode(list(islice(_stretches(words, tokens), _TRIES * count)))
        if len(encoded.ids) == tokens
    ][:count]
    if len(found) < count:
        raise EvaluationError(
            f"only {len(found)} of {count} queries of {tokens} tokens could be cut from the evaluation data; "
            "give other --eval-data, or fewer --tokens"
        )
    return np.stack(found)


def _stretches(words: list[str], length: int) -> Iterator[str]:
    stream = cycle(words)
    while True:
        yield " ".join(islice(stream, length))
