"""Cuts texts into batches that every pool takes, and puts outcomes back in the order of the texts. No I/O."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from indexer.client.answers import Answer, Document, Pool
from indexer.client.status import Status
from indexer.config import FlowConfig
from indexer.errors import PoolError

_ROW_BYTES: Final = 256  # what a held document costs beside its text and its vector; an estimate


@dataclass
class TextBatch:
    """Texts that follow each other in the input.

    Attributes:
        number: Counts the batches of one call.
        first: Place of the first text in the input.
        count: Texts, those that are not sent included.
        texts: UTF-8 bytes of those that are sent.
        places: Position of each of them in the batch.
        refused: Position and reason of those that no pool takes.
        bytes: What it counts as held.
    """

    number: int
    first: int
    count: int = 0
    texts: list[bytes] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    refused: list[tuple[int, str]] = field(default_factory=list)
    bytes: int = 0


@dataclass(frozen=True)
class CutRule:
    """What a batch may hold: `items` texts, `bytes` of them in all, one text at most `text_bytes`.

    A text counts `row_bytes` beside its own bytes against what is held at once, for its vector.
    """

    items: int
    bytes: int
    text_bytes: int
    row_bytes: int

    @classmethod
    def of(cls, pools: Sequence[Pool], flow: FlowConfig) -> "CutRule":
        """Returns what every one of the pools takes."""
        return cls(
            items=min(flow.batch_items, *(pool.max_batch_items for pool in pools)),
            bytes=min(flow.batch_bytes, *(pool.max_batch_bytes for pool in pools)),
            text_bytes=min(min(pool.max_text_bytes, pool.max_batch_bytes) for pool in pools),
            row_bytes=_ROW_BYTES + 4 * max(pool.dim for pool in pools),
        )

    def check(self, target: str, pool: Pool) -> None:
        """Raises PoolError for a pool that takes less than what batches may hold."""
        check_limits(target, pool, self.items, self.bytes, self.text_bytes)


def check_limits(target: str, pool: Pool, items: int, size: int, text_size: int) -> None:
    """Raises PoolError for a pool that came later and takes less than what batches were cut for.

    Args:
        target: Its address.
        pool: What it takes.
        items: Texts in a batch.
        size: Bytes in a batch, unless one text alone is larger.
        text_size: Bytes in a text.
    """
    limits = (
        ("texts in a batch", items, pool.max_batch_items),
        ("bytes in a batch", size, pool.max_batch_bytes),
        ("bytes in a text", text_size, min(pool.max_text_bytes, pool.max_batch_bytes)),
    )
    for name, wanted, taken in limits:
        if taken < wanted:
            raise PoolError(
                f"worker {target} takes at most {taken} {name}, those under way have up to {wanted}: "
                "start it with the limits of the others"
            )


class Cutter:
    """Makes batches of texts, one text after the other; one that no pool takes is `refused` in its batch."""

    def __init__(self, rule: CutRule) -> None:
        self._rule = rule
        self._batch = TextBatch(0, 0)
        self._text_bytes = 0
        self._index = 0

    def add(self, text: str | bytes) -> TextBatch | None:
        """Takes the next text; returns the batch before it when that is full.

        Raises:
            TypeError: The text is neither str nor bytes.
        """
        rule, raw = self._rule, _encoded(self._index, text)
        size = len(raw) if isinstance(raw, bytes) else 0
        full = self._batch.count >= rule.items or (
            bool(self._batch.texts) and self._text_bytes + size > rule.bytes
        )
        done = self.rest() if full else None
        batch = self._batch
        if not isinstance(raw, bytes):
            batch.refused.append((batch.count, raw))
        elif size > rule.text_bytes:
            reason = f"the text has {size} bytes, the pool takes {rule.text_bytes}; cut it in pieces"
            batch.refused.append((batch.count, reason))
        else:
            batch.texts.append(raw)
            batch.places.append(batch.count)
            self._text_bytes += size
            batch.bytes += size
        batch.bytes += rule.row_bytes
        batch.count += 1
        self._index += 1
        return done

    def rest(self) -> TextBatch | None:
        """Returns the batch that is not full, and begins the next."""
        done = self._batch
        self._batch, self._text_bytes = TextBatch(done.number + 1, self._index), 0
        return done if done.count else None


def _encoded(index: int, text: str | bytes) -> bytes | str:
    """Returns the UTF-8 bytes of a text, or why it has none."""
    if isinstance(text, bytes):
        return text
    if not isinstance(text, str):
        raise TypeError(f"text {index} is a {type(text).__name__}, wanted str or bytes")
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        return f"the text is not UTF-8: {error.reason} at character {error.start}"


def outcomes(batch: TextBatch, answer: Answer | None) -> list[Document]:
    """Returns what became of each text of a batch; `answer` is None when none of them was sent."""
    found = {
        position: Document(batch.first + position, None, code=Status.INVALID_ARGUMENT, message=reason)
        for position, reason in batch.refused
    }
    if answer is not None:
        vectors = answer.vectors.astype("float32", copy=False)
        for row, sent in enumerate(answer.good.tolist()):
            position = batch.places[sent]
            found[position] = Document(
                index=batch.first + position,
                vector=vectors[row],
                token_count=int(answer.token_counts[row]),
                truncated=bool(answer.truncated[row]),
                windows=int(answer.windows[row]),
                fingerprint=answer.fingerprint,
            )
        for failure in answer.failures:
            position = batch.places[failure.position]
            found[position] = Document(
                batch.first + position, None, code=failure.code, message=failure.message
            )
    return [found[position] for position in range(batch.count)]
