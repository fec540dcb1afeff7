"""The texts of one request as bulk work: in batches that keep the limits, answered together.

Guarantees: what was let in is answered whole, also while the server drains; all vectors are of one model.
Assumes one event loop.
"""

import asyncio
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from worker.errors import RequestError, UnavailableError
from worker.models import Model
from worker.requests.batch import Batch, Embedded
from worker.requests.bulk import BulkStream
from worker.requests.frontend import ReadOptions
from worker.settings.config import Limits
from worker.wires.http.refusals import first_bad


class Batches:
    """A bulk stream that carries one request.

    Args:
        bulk: The stream.
        texts: The request's texts, UTF-8.
        options: How its caller wants them.
        limits: Bounds of a batch.
    """

    def __init__(
        self, bulk: BulkStream, texts: Sequence[bytes], options: ReadOptions, limits: Limits
    ) -> None:
        self._bulk = bulk
        self._texts = texts
        self._options = options
        self._limits = limits
        self._done: dict[int, Batch] = {}  # index of its first text to the batch

    async def hold(self) -> None:
        """Embeds all texts.

        Raises:
            RequestError: They break a limit, or ask for what the model lacks.
            HttpError: One of them, or more, cannot be embedded.
            UnavailableError: Another model took over in between.
        """
        giver = asyncio.create_task(self._give())
        try:
            async for batch in self._bulk.finished():
                self._bulk.written(batch)
                self._check(batch)
                self._done[batch.batch_id] = batch
            await giver
        finally:
            giver.cancel()
            await asyncio.gather(giver, return_exceptions=True)

    def stop_reading(self) -> None:
        """Does nothing: the whole request was read before it was let in."""

    @property
    def model(self) -> Model:
        """The model that embedded them."""
        return next(iter(self._done.values())).model

    def texts(self) -> Iterator[Embedded]:
        """Yields what is told of each text, in order."""
        for _, batch in sorted(self._done.items()):
            yield from (text for text in batch.texts if text is not None)

    def vectors(self) -> NDArray[np.float32]:
        """Returns the vectors, float32 `[texts, dim]`."""
        return np.concatenate([batch.gather.vectors for _, batch in sorted(self._done.items())])

    async def _give(self) -> None:
        given = 0
        try:
            for first, texts in _pieces(self._texts, self._limits):
                await self._bulk.wait_for_room()
                await self._bulk.accept(first, texts, self._options)
                given += len(texts)
        except RequestError:
            self._bulk.refused(len(self._texts) - given)
            raise
        finally:
            self._bulk.end()

    def _check(self, batch: Batch) -> None:
        if batch.gather.errors:
            errors = {batch.batch_id + row: error for row, error in batch.gather.errors.items()}
            raise first_bad(errors, len(self._texts))
        if any(other.model is not batch.model for other in self._done.values()):
            raise UnavailableError("another model took over while this was embedded: send it again")


def _pieces(texts: Sequence[bytes], limits: Limits) -> Iterator[tuple[int, Sequence[bytes]]]:
    """Yields (index of the first, texts) of each batch, every one within the limits.

    Raises:
        RequestError: A text is too large.
    """
    for index, text in enumerate(texts):
        if len(text) > limits.max_text_bytes:
            raise RequestError(
                f"texts[{index}] has {len(text)} bytes, the limit max_text_bytes is {limits.max_text_bytes}"
            )
    first = size = 0
    for index, text in enumerate(texts):
        if index - first == limits.max_batch_items or size + len(text) > limits.max_batch_bytes:
            yield first, texts[first:index]
            first, size = index, 0
        size += len(text)
    yield first, texts[first:]
