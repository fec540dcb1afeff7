"""One call of `embed_documents`: texts in, outcomes out in the same order, few of them held at once."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from indexer.client.answers import NO_LIMIT, Answer, Document, Pool
from indexer.client.dispatch import Dispatcher
from indexer.client.members import Members
from indexer.client.settings import Options
from indexer.client.status import Status
from indexer.config import FlowConfig
from indexer.errors import AwayError, ModelMismatchError

_ROW_BYTES = 256  # what a held document costs beside its text and its vector; an estimate


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


class DocumentJob:
    """Batches under way for one call, and their answers in order.

    Guarantees: what is held (texts, vectors, bookkeeping) is at most `flow.bytes_in_flight` and one batch.
    Assumes: one asyncio loop; one caller that submits while there is `room`, and takes.

    Args:
        members: The pools.
        pool: One of them, as it described itself.
        options: How to embed.
        flow: Windows and patience.
        log: Takes a line for people when a pool goes or comes back.
    """

    def __init__(
        self, members: Members, pool: Pool, options: Options, flow: FlowConfig, log: Callable[[str], None]
    ) -> None:
        pools = members.pools
        self.rule = CutRule.of([pool, *pools.values()], flow)
        self._limit = flow.bytes_in_flight
        self._held = 0
        self._line: deque[tuple[TextBatch, asyncio.Future[Answer | None]]] = deque()
        self._answers: dict[int, asyncio.Future[Answer | None]] = {}
        self._model = pool.fingerprint
        self._dispatcher: Dispatcher[TextBatch] = Dispatcher(
            # Also those that are away now: they may be back before the end.
            targets=[
                target
                for target in members.balancer.standings
                if target not in pools or pools[target].fingerprint == pool.fingerprint
            ],
            access=members.access,
            check_model=self._check_model,
            dim=options.dimensions or pool.dim,
            options=options,
            flow=replace(flow, bytes_in_flight=NO_LIMIT),  # held back here, until the answers are taken
            on_answer=self._on_answer,
            log=log,
        )
        self._runner = asyncio.create_task(self._dispatcher.run())

    @property
    def room(self) -> bool:
        """Whether another batch may be submitted."""
        return self._held < self._limit

    @property
    def pending(self) -> bool:
        """Whether a submitted batch has not been taken."""
        return bool(self._line)

    @property
    def ready(self) -> bool:
        """Whether `take` returns at once."""
        return bool(self._line) and self._line[0][1].done()

    async def submit(self, batch: TextBatch) -> None:
        """Sends a batch, as soon as a pool takes it; it never waits."""
        answer: asyncio.Future[Answer | None] = asyncio.get_running_loop().create_future()
        self._line.append((batch, answer))
        self._held += batch.bytes
        if batch.texts:
            self._answers[batch.number] = answer
            await self._dispatcher.put(batch)
        else:
            answer.set_result(None)

    async def take(self, deadline: float | None) -> list[Document]:
        """Returns what became of the oldest batch, waiting for it.

        Raises:
            PoolError: The pools were away for too long, refused for good or serve another model.
            AwayError: The deadline, on the loop's clock, passed (DEADLINE_EXCEEDED).
        """
        batch, answer = self._line[0]
        left = None if deadline is None else max(0.0, deadline - asyncio.get_running_loop().time())
        waiting: set[asyncio.Future[Any]] = {answer, self._runner}
        await asyncio.wait(waiting, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            if self._runner.done():
                self._runner.result()  # raises: it does not end by itself
            raise AwayError(
                f"document {batch.first} has no answer and the time is up; give more, or none",
                code=Status.DEADLINE_EXCEEDED,
            )
        self._line.popleft()
        self._held -= batch.bytes
        return outcomes(batch, answer.result())

    async def close(self) -> None:
        """Ends the streams; what is not answered never will be."""
        self._runner.cancel()
        await asyncio.gather(self._runner, return_exceptions=True)
        del self._runner, self._dispatcher  # as in `race`: they would hold each other, and connections

    def _check_model(self, target: str, fingerprint: str) -> None:
        """Raises ModelMismatchError for a second model: one result never mixes them."""
        if fingerprint != self._model:
            raise ModelMismatchError(
                f"worker {target} serves model {fingerprint[:12]}, the documents before have vectors of "
                f"model {self._model[:12]}: one result never mixes them; use pools of one model"
            )

    def _on_answer(self, batch: TextBatch, answer: Answer) -> None:
        self._answers.pop(batch.number).set_result(answer)
