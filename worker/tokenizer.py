"""Text to token ids, with the Rust tokenizer of the bundle.

Nothing is ever padded: a run holds one text, or texts of exactly equal length.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding
from tokenizers import Tokenizer as RustTokenizer

from worker.errors import BundleError, TokenizerError
from worker.windows import Chunking, Frame, Windows, split

# Characters a token that a long text is first cut to. Prose has 4 to 6 a token, so that nearly always more
# tokens are found than fit, and the rest of the text need not be read at all.
_CHARS_PER_TOKEN = 12
# Tokens that must be found beyond the longest input before the cut text counts: what the cut itself may have
# changed (half a word) is then far behind what is used. Arbitrary.
_SPARE_TOKENS = 16


@dataclass(frozen=True)
class Tokens:
    """The tokens of one text.

    Attributes:
        ids: Token ids, int64 `[tokens]`, special tokens included, at most `max_tokens`.
        truncated: Whether the text was cut.
        empty: Whether nothing but special tokens is there.
    """

    ids: NDArray[np.int64]
    truncated: bool
    empty: bool


class Token(NamedTuple):
    """One token of a text.

    Attributes:
        id: Its number in the vocabulary.
        text: The piece of the text that it stands for; of a special token its name.
        special: Whether the tokenizer added it.
        start: Code point of the text where it starts; 0 for a special token.
        stop: First code point behind it; 0 for a special token.
    """

    id: int
    text: str
    special: bool
    start: int = 0
    stop: int = 0


class Tokenizer:
    """Encodes texts as the model was trained to read them, cut at `max_tokens`.

    Args:
        path: A `tokenizer.json`; its own padding and truncation settings are not used.
        max_tokens: Longest result, special tokens included.

    Attributes:
        special_tokens: How many it adds to a text.

    Raises:
        BundleError: The file cannot be read as a tokenizer.
    """

    def __init__(self, path: Path, max_tokens: int) -> None:
        try:
            self._tokenizer = RustTokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception
            raise BundleError(f"{path} is no tokenizer ({error}); build the bundle again") from error
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_tokens)
        self._frame: Frame | None = None
        self.special_tokens: int = self._tokenizer.num_special_tokens_to_add(is_pair=False)
        # Without a pre-tokenizer the end of a text may decide how its beginning is split.
        self._cuts_first = self._tokenizer.pre_tokenizer is not None
        self.max_tokens = max_tokens

    def encode(self, texts: Sequence[str], *, keep_end: bool = False) -> list[Tokens]:
        """Returns the tokens of each text, in order; thread-safe, and releases the GIL while it works.

        Of a long text in prose only the part that is kept is read, so that its time does not grow with what
        is cut: the beginning, and with `keep_end` the end.

        Raises:
            TokenizerError: The tokenizer failed on one of the texts; it does not say on which.
        """
        beginnings = [self._beginning(text, self.max_tokens) for text in texts]
        encodings = self._encode(beginnings)
        found = [
            self._tokens(encoding if self._suffices(beginning, text, encoding) else self._whole(text))
            for text, beginning, encoding in zip(texts, beginnings, encodings, strict=True)
        ]
        if not keep_end:
            return found
        return [
            self._end_of(text) if tokens.truncated else tokens
            for text, tokens in zip(texts, found, strict=True)
        ]

    def tokens(self, text: str, *, special: bool) -> Iterator[Token]:
        """Yields the tokens of a text, which is not cut; `special` asks for those that are added to it.

        Raises:
            TokenizerError: The tokenizer failed on it.
        """
        (encoding,) = self._encode([text], special=False, places=True)
        nothing = np.zeros(0, dtype=np.int64)
        frame = Frame(nothing, nothing)
        if special and encoding.ids:
            frame = self._special_tokens_around(text)
        elif special:
            frame = Frame(np.asarray(self._whole(text).ids, dtype=np.int64), nothing)
        yield from self._named(frame.before)
        for piece in (encoding, *encoding.overflowing):
            for number, (start, stop) in zip(piece.ids, piece.offsets, strict=True):
                yield Token(number, text[start:stop], special=False, start=start, stop=stop)
        yield from self._named(frame.after)

    def windows(self, texts: Sequence[str], chunking: Chunking) -> list[Windows | None]:
        """Returns the windows of each text, in order; None where nothing but special tokens is there.

        Thread-safe; of a text that is longer than all its windows only the beginning is read, as above.

        Raises:
            TokenizerError: The tokenizer failed on one of the texts; it does not say on which.
        """
        wanted, places = chunking.max_content(self.special_tokens), chunking.separate
        beginnings = [self._beginning(text, wanted) for text in texts]
        found = [
            _Content.of(encoding, places=places)
            for encoding in self._encode(beginnings, special=False, places=places)
        ]
        for place, (text, beginning) in enumerate(zip(texts, beginnings, strict=True)):
            if len(beginning) < len(text) and len(found[place].ids) < wanted + _SPARE_TOKENS:
                (whole,) = self._encode([text], special=False, places=places)
                found[place] = _Content.of(whole, places=places)
        return [
            split(content.ids, self._special_tokens_around(text), chunking, content.places)
            if len(content.ids)
            else None
            for text, content in zip(texts, found, strict=True)
        ]

    def _beginning(self, text: str, tokens: int) -> str:
        end = tokens * _CHARS_PER_TOKEN
        if len(text) <= end or not self._cuts_first:
            return text
        space = text.rfind(" ", 0, end)
        return text[:space] if space > 0 else text

    def _end_of(self, text: str) -> Tokens:
        wanted = self.max_tokens - self.special_tokens
        end = self._ending(text, wanted)
        ids = _Content.of(*self._encode([end], special=False), places=False).ids
        if len(end) < len(text) and len(ids) < wanted + _SPARE_TOKENS:
            ids = _Content.of(*self._encode([text], special=False), places=False).ids
        frame = self._special_tokens_around(text)
        kept = np.concatenate((frame.before, ids[len(ids) - wanted :], frame.after))
        return Tokens(kept, truncated=True, empty=False)

    def _ending(self, text: str, tokens: int) -> str:
        start = len(text) - tokens * _CHARS_PER_TOKEN
        if start <= 0 or not self._cuts_first:
            return text
        space = text.find(" ", start)
        return text[space:] if space >= 0 else text

    def _suffices(self, beginning: str, text: str, encoding: Encoding) -> bool:
        if len(beginning) == len(text):
            return True
        spare = sum(len(rest.ids) - self.special_tokens for rest in encoding.overflowing)
        return spare >= _SPARE_TOKENS

    def _special_tokens_around(self, text: str) -> Frame:
        """Finds the special tokens, which are the same around every text that has a token of its own."""
        if self._frame is None:
            encoding = self._whole(self._beginning(text, self.max_tokens))
            if all(encoding.special_tokens_mask):  # a long text that begins with nothing to read
                encoding = self._whole(text)
            ids = np.asarray(encoding.ids, dtype=np.int64)
            own = np.flatnonzero(np.asarray(encoding.special_tokens_mask) == 0)
            self._frame = Frame(ids[: own[0]], ids[own[-1] + 1 :])
        return self._frame

    def _named(self, special: NDArray[np.int64]) -> Iterator[Token]:
        for number in special.tolist():
            yield Token(number, self._tokenizer.id_to_token(number) or "", special=True)

    def _whole(self, text: str) -> Encoding:
        (encoding,) = self._encode([text])
        return encoding

    def _encode(self, texts: list[str], *, special: bool = True, places: bool = False) -> list[Encoding]:
        # The fast one does not tell where tokens lie; the ids are the same.
        encode = self._tokenizer.encode_batch if places else self._tokenizer.encode_batch_fast
        try:
            return encode(texts, add_special_tokens=special)
        except BaseException as error:  # the library raises bare Exception, and BaseException for a panic
            if isinstance(error, (KeyboardInterrupt, SystemExit, GeneratorExit)):
                raise
            raise TokenizerError(f"the tokenizer failed: {error}") from error

    def _tokens(self, encoding: Encoding) -> Tokens:
        return Tokens(
            ids=np.asarray(encoding.ids, dtype=np.int64),
            truncated=bool(encoding.overflowing),
            empty=len(encoding.ids) <= self.special_tokens,
        )


@dataclass(frozen=True)
class _Content:
    """Tokens of a text without special ones: ids `[tokens]`, and where they lie, `[tokens, 2]`, or None."""

    ids: NDArray[np.int64]
    places: NDArray[np.int64] | None

    @classmethod
    def of(cls, encoding: Encoding, *, places: bool) -> "_Content":
        """Returns the tokens of an encoding, which the library cuts into pieces."""
        pieces = [encoding, *encoding.overflowing]
        ids = np.concatenate([np.asarray(piece.ids, dtype=np.int64) for piece in pieces])
        if not places:
            return cls(ids, None)
        spans = [np.asarray(piece.offsets, dtype=np.int64).reshape(-1, 2) for piece in pieces]
        return cls(ids, np.concatenate(spans))
