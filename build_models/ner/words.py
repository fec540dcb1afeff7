"""Words to token ids: each word's first piece is where its tag is learned and read.

A sentence that is too long for the model is cut into windows between words, so that every word keeps its
place in exactly one window.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding
from tokenizers import Tokenizer as RustTokenizer

from build_models.errors import SourceError


@dataclass(frozen=True)
class Window:
    """Consecutive words of one sentence as the model reads them.

    Attributes:
        ids: Token ids, int64 `[tokens]`, special tokens included.
        places: Position in `ids` of the first piece of each word, int64 `[words]`.
        words: Index in the sentence of each word, int64 `[words]`. Words of which the tokenizer leaves
            nothing (control characters) are in no window.
    """

    ids: NDArray[np.int64]
    places: NDArray[np.int64]
    words: NDArray[np.int64]


class WordTokenizer:
    """Encodes sentences that are lists of words.

    Args:
        path: A `tokenizer.json`; its own padding and truncation settings are not used.
        max_tokens: Longest window, special tokens included.

    Raises:
        SourceError: The file cannot be read as a tokenizer, or a window has no room for a word.
    """

    def __init__(self, path: Path, max_tokens: int) -> None:
        try:
            self._whole = RustTokenizer.from_file(str(path))
            self._cut = RustTokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception
            raise SourceError(f"{path} is no tokenizer ({error}); the model folder is damaged") from error
        for tokenizer in (self._whole, self._cut):
            tokenizer.no_padding()
        self._whole.no_truncation()
        self._room = max_tokens - self._whole.num_special_tokens_to_add(is_pair=False)
        if self._room < 1:
            raise SourceError(f"windows of {max_tokens} tokens have no room for a word; allow more tokens")
        self._cut.enable_truncation(max_tokens)

    def encode(self, sentences: Sequence[Sequence[str]]) -> list[list[Window]]:
        """Returns the windows of each sentence, in order; a sentence without pieces has none."""
        encodings = self._whole.encode_batch([list(words) for words in sentences], is_pretokenized=True)
        return [
            [window for window in self._windows(words, encoding) if len(window.words)]
            for words, encoding in zip(sentences, encodings, strict=True)
        ]

    def _windows(self, words: Sequence[str], encoding: Encoding) -> Iterator[Window]:
        pieces = [0] * len(words)
        for word in encoding.word_ids:
            if word is not None:
                pieces[word] += 1
        spans = cut(pieces, self._room)
        if len(spans) == 1:
            yield _window(encoding, 0)
            return
        for first, last in spans:
            yield _window(self._cut.encode(list(words[first:last]), is_pretokenized=True), first)


def cut(pieces: Sequence[int], room: int) -> list[tuple[int, int]]:
    """Returns the spans `[first, last)` of words that each fit into a window, in order and without gaps.

    Args:
        pieces: How many tokens each word has.
        room: Tokens that fit into a window. A word with more has a window of its own and loses its end,
            never its first piece.
    """
    spans: list[tuple[int, int]] = []
    first = used = 0
    for word, count in enumerate(pieces):
        if used + count > room and word > first:
            spans.append((first, word))
            first, used = word, 0
        used += count
    spans.append((first, len(pieces)))
    return spans


def _window(encoding: Encoding, first_word: int) -> Window:
    places: list[int] = []
    words: list[int] = []
    for place, word in enumerate(encoding.word_ids):
        if word is not None and (not words or words[-1] != word):
            places.append(place)
            words.append(word)
    return Window(
        ids=np.asarray(encoding.ids, dtype=np.int64),
        places=np.asarray(places, dtype=np.int64),
        words=np.asarray(words, dtype=np.int64) + first_word,
    )
