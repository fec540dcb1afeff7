"""A caller who wants the tokens of a text, and no vector."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from worker.models import Model
from worker.tokenizer import Token, Tokenizer

# What telling the tokens of a text costs here for each of its bytes: a token of prose has four or five of
# them, and takes some 150 as a part of an answer; an estimate.
_TOLD_BYTES_PER_BYTE = 32

_T = TypeVar("_T")


@dataclass(frozen=True)
class Telling(Generic[_T]):
    """How the tokens of a text are to be told.

    Attributes:
        text: The text, which is not cut.
        special: Whether the tokens that the tokenizer adds are wanted too.
        prompt_for: Tells what a model wants in front of it; raises RequestError.
        tell: Makes an answer of the tokens; for a long text it is called in a thread.
    """

    text: str
    special: bool
    prompt_for: Callable[[Model], str]
    tell: Callable[[Iterator[Token]], _T]

    def cost(self, text_bytes: int) -> int:
        """Returns the bytes that telling the tokens of so many bytes of text holds here."""
        return text_bytes * _TOLD_BYTES_PER_BYTE

    def told(self, tokenizer: Tokenizer, whole: str) -> _T:
        """Returns the answer for a text that has its prompt in front.

        Raises:
            TokenizerError: The tokenizer failed on it.
        """
        return self.tell(tokenizer.tokens(whole, special=self.special))
