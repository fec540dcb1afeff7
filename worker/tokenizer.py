"""Text to token ids, with the Rust tokenizer of the bundle.

Nothing is ever padded: a run holds one text, or texts of exactly equal length.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer as RustTokenizer

from worker.errors import BundleError


@dataclass(frozen=True)
class Tokens:
    """The tokens of one text.

    Attributes:
        ids: Token ids, int64 `[tokens]`, special tokens included, at most `max_tokens`.
        truncated: Whether the end of the text was cut.
        empty: Whether nothing but special tokens is there.
    """

    ids: NDArray[np.int64]
    truncated: bool
    empty: bool


class Tokenizer:
    """Encodes texts as the model was trained to read them, cut at `max_tokens`.

    Args:
        path: A `tokenizer.json`; its own padding and truncation settings are not used.
        max_tokens: Longest result, special tokens included.

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
        self._special_tokens = self._tokenizer.num_special_tokens_to_add(is_pair=False)
        self.max_tokens = max_tokens

    def encode(self, texts: Sequence[str]) -> list[Tokens]:
        """Returns the tokens of each text, in order; thread-safe, and releases the GIL while it works."""
        return [
            Tokens(
                ids=np.asarray(encoding.ids, dtype=np.int64),
                truncated=bool(encoding.overflowing),
                empty=len(encoding.ids) <= self._special_tokens,
            )
            for encoding in self._tokenizer.encode_batch_fast(list(texts))
        ]
