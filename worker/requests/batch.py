"""One message of a bulk stream on its way through the pool, and the pieces that it is tokenized in."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import NamedTuple

from worker.models import Model
from worker.requests.intake import Options
from worker.scheduling.gather import Gather
from worker.windows import Windows

# Text bytes tokenized in one go: small, so that processes get work before a large batch is tokenized whole
# and streams take turns in between; large enough that a hop to the thread is cheap per text. Arbitrary.
_CHUNK_BYTES = 64 * 1024
# The same for texts that are cut into windows, in bytes that their windows may hold: by so much a stream can
# pass its limit. Arbitrary.
WINDOW_CHUNK_BYTES = 1024 * 1024
# Token ids and bookkeeping that a waiting text costs beside its bytes and its vector; an estimate.
_ITEM_BYTES = 1024
# What is told of each window that keeps its vector, here and in the answer's message; an estimate.
_WINDOW_FACT_BYTES = 256


class Embedded(NamedTuple):
    """What is told of a text beside its vector.

    Attributes:
        token_count: Tokens that are embedded.
        truncated: Whether it was cut.
        windows: Its runs.
        window_starts: Code point where each run starts, where each keeps its vector.
        window_stops: First code point behind it.
        window_token_counts: Tokens of each run, special ones included.
    """

    token_count: int
    truncated: bool
    windows: int
    window_starts: tuple[int, ...] = ()
    window_stops: tuple[int, ...] = ()
    window_token_counts: tuple[int, ...] = ()

    @classmethod
    def of(cls, text: Windows) -> "Embedded":
        """Returns what is told of a text."""
        told = (text.token_count, text.truncated, len(text.ids))
        if text.spans is None:
            return cls(*told)
        starts, stops = zip(*text.spans, strict=True)
        return cls(*told, starts, stops, tuple(map(len, text.ids)))


class Batch:
    """One message on its way through the pool.

    Attributes:
        batch_id: The caller's number for it.
        model: What computes it.
        options: How its caller wants it.
        size: How many texts it has.
        cost: Bytes that it holds here until it is answered, windows that become one vector aside.
        texts: What is told of each text; None for a refused one.
        gather: Vectors and errors, row i for text i.
        lease: Keeps the model's processes until the answer is written.
        began_ns: When it was taken in, by `time.perf_counter_ns`.
        queued_ns: When its first texts were queued; 0 before.
        tokenized_ns: When its last texts so far were tokenized.
        counted: Whether it is known how its texts ended.
    """

    def __init__(self, batch_id: int, model: Model, options: Options, texts: Sequence[bytes]) -> None:
        self.batch_id = batch_id
        self.model = model
        self.options = options
        self.size = len(texts)
        self.cost = sum(map(len, texts)) + self.size * (_ITEM_BYTES + 4 * model.manifest.dim)
        self.texts: list[Embedded | None] = []
        self.gather: Gather
        self.lease = ExitStack()
        self.began_ns = self.tokenized_ns = time.perf_counter_ns()
        self.queued_ns = 0
        self.counted = False

    def bytes_of_windows(self, windows: int) -> int:
        """Returns what windows that keep their vectors hold here until the answer, beyond one vector."""
        return windows * (_WINDOW_FACT_BYTES + 4 * self.model.manifest.dim) - 4 * self.model.manifest.dim


def chunks_for(texts: Sequence[bytes], batch: Batch) -> Iterator[tuple[int, Sequence[bytes]]]:
    """Yields (index of the first, texts) in pieces to tokenize and to queue in one go."""
    if (chunking := batch.options.chunking) is None:
        return _chunks(texts, len, _CHUNK_BYTES)
    special = batch.model.tokenizer.special_tokens
    return _chunks(texts, lambda text: chunking.most_bytes(len(text), special), WINDOW_CHUNK_BYTES)


def _chunks(
    texts: Sequence[bytes], size_of: Callable[[bytes], int], most: int
) -> Iterator[tuple[int, Sequence[bytes]]]:
    """Yields (index of the first, texts), cut so that each holds at most `most`, but one text at least."""
    first = total = 0
    for index, text in enumerate(texts):
        size = size_of(text)
        if index > first and total + size > most:
            yield first, texts[first:index]
            first, total = index, 0
        total += size
    if first < len(texts):
        yield first, texts[first:]
