"""A long text as windows that overlap, and their vectors as one.

Pure. A window is a run of its own: it shares the processes fairly, may be repeated, and delays a query no
longer than its own tokens take. Guarantee: a text that fits into one window is that window, so that its
vector is, bit for bit, what it is without windows; and the pooled vector does not depend on the order in
which windows are done.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from worker.errors import RequestError

# Bytes that a window holds here beside its ids: arrays, bookkeeping of the pool; an estimate.
WINDOW_BYTES = 512
_ID_BYTES = 8


@dataclass(frozen=True)
class Chunking:
    """How a long text is cut.

    Attributes:
        window_tokens: Tokens of a window, special tokens included.
        overlap_tokens: Tokens that a window shares with the one before.
        max_windows: Windows of one text; what lies behind them is cut.
        separate: Whether each window keeps a vector of its own.
    """

    window_tokens: int
    overlap_tokens: int
    max_windows: int
    separate: bool = False

    def step(self, special_tokens: int) -> int:
        """Returns how many tokens of the text each window adds to those before."""
        return self.window_tokens - special_tokens - self.overlap_tokens

    def most_bytes(self, text_bytes: int, special_tokens: int) -> int:
        """Returns the bytes that the windows of a text can hold here at the most, before it is tokenized.

        An estimate: a token is held to have at least one byte, which few normalizers break.
        """
        windows = min(self.max_windows, 1 + text_bytes // self.step(special_tokens))
        return windows * (_ID_BYTES * self.window_tokens + WINDOW_BYTES)

    def max_content(self, special_tokens: int) -> int:
        """Returns how many tokens of a text, without special ones, all windows hold."""
        return self.overlap_tokens + self.max_windows * self.step(special_tokens)


@dataclass(frozen=True)
class Frame:
    """The special tokens that the tokenizer puts around a text: ids, int64 `[tokens]`."""

    before: NDArray[np.int64]
    after: NDArray[np.int64]


@dataclass(frozen=True)
class Windows:
    """The runs of one text: one, unless it is long and its caller wants windows.

    Attributes:
        ids: Token ids of each run, int64 `[tokens]`, special tokens included.
        weights: Tokens of each run, special tokens not included.
        token_count: Tokens of the text that are embedded, special ones included, each counted once.
        truncated: Whether the end of the text is in no window.
        spans: Code points of the text where each run starts and stops, if its vector is its own; None if the
            text has one vector.
    """

    ids: tuple[NDArray[np.int64], ...]
    weights: tuple[int, ...]
    token_count: int
    truncated: bool
    spans: tuple[tuple[int, int], ...] | None = None

    @property
    def extra_bytes(self) -> int:
        """Bytes that the windows of a text hold here beyond what a text of one run does; an estimate."""
        if len(self.ids) == 1:
            return 0
        return sum(ids.nbytes + WINDOW_BYTES for ids in self.ids)

    def behind(self, prompt: str) -> "Windows":
        """Returns what is told of a text that had a prompt in front: spans leave it out."""
        if not prompt or self.spans is None:
            return self
        size = len(prompt)
        return replace(self, spans=tuple((max(0, at - size), max(0, to - size)) for at, to in self.spans))


def check_chunking(
    window_tokens: int,
    overlap_tokens: int,
    *,
    max_tokens: int,
    special_tokens: int,
    max_windows: int,
    separate: bool = False,
) -> Chunking:
    """Returns how texts are cut; a `window_tokens` of 0 asks for the model's longest input.

    Raises:
        RequestError: A window longer than the model reads, or too short for a token that is new in it.
    """
    window = window_tokens or max_tokens
    if window > max_tokens:
        raise RequestError(
            f"options.chunking.window_tokens is {window}, the model reads at most {max_tokens} tokens"
        )
    if window <= special_tokens:
        raise RequestError(
            f"options.chunking.window_tokens is {window}, the least is {special_tokens + 1}: the model's "
            f"{special_tokens} special tokens and one of the text"
        )
    if 2 * overlap_tokens >= window:
        raise RequestError(
            f"options.chunking.overlap_tokens is {overlap_tokens}, it must be less than half of "
            f"window_tokens, which is {window}"
        )
    if overlap_tokens >= window - special_tokens:
        raise RequestError(
            f"options.chunking.overlap_tokens is {overlap_tokens}, but a window of {window} tokens holds "
            f"{window - special_tokens} of the text, and one of them must be new"
        )
    return Chunking(window, overlap_tokens, max_windows, separate)


def split(
    content: NDArray[np.int64],
    frame: Frame,
    chunking: Chunking,
    places: NDArray[np.int64] | None = None,
) -> Windows:
    """Cuts a text, ids `[tokens]` without special ones, into windows with the special tokens around each.

    The last window ends with the text, so it may be short. This is what the tokenizer's own truncation with a
    stride gives. `places`, `[tokens, 2]`, are the code points where tokens start and stop: with them windows
    have spans.
    """
    special = len(frame.before) + len(frame.after)
    kept = content[: chunking.max_content(special)]
    size, step = chunking.window_tokens - special, chunking.step(special)
    starts = range(0, max(1, len(kept) - chunking.overlap_tokens), step)
    pieces = [kept[start : start + size] for start in starts]
    spans = None
    if places is not None:
        spans = tuple(
            _span(places[start : start + len(piece)]) for start, piece in zip(starts, pieces, strict=True)
        )
    return Windows(
        ids=tuple(np.concatenate((frame.before, piece, frame.after)) for piece in pieces),
        weights=tuple(len(piece) for piece in pieces),
        token_count=len(kept) + special,
        truncated=len(kept) < len(content),
        spans=spans,
    )


def _span(places: NDArray[np.int64]) -> tuple[int, int]:
    """Returns where a window starts and stops; tokens that stand for nothing in the text do not count."""
    real = places[places[:, 1] > places[:, 0]]
    return (int(real[:, 0].min()), int(real[:, 1].max())) if len(real) else (0, 0)


def pool(vectors: NDArray[np.float32], weights: tuple[int, ...], *, normalize: bool) -> NDArray[np.float32]:
    """Returns the mean of windows, float32 `[windows, dim]` → `[dim]`, weighted by their tokens.

    With `normalize` it has unit length, unless it is all zeros. One window is returned untouched.
    """
    if len(weights) == 1:
        only: NDArray[np.float32] = vectors[0]
        return only
    shares = np.asarray(weights, dtype=np.float64) / sum(weights)
    mean: NDArray[np.float64] = (vectors.astype(np.float64) * shares[:, None]).sum(axis=0)
    length = np.linalg.norm(mean)
    if normalize and length > 0:
        mean /= length
    return mean.astype(np.float32)
