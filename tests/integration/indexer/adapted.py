"""A pool with prompts of its own for queries and documents, for the tests of adapters."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexer.client import Client

PROMPTS = {"query": "how does one return ", "document": "the class of the ", "other": "an error in "}
# Documents are counted when their answer is written, which may be after it is read: the stream ends last.
_STREAM_SECONDS = 30.0
TEXTS = ["Sorts a list in place.", "Opens a file for reading.", "Sends a request.", "Adds two numbers."]


@dataclass(frozen=True)
class Prompted:
    """The pool.

    Attributes:
        address: What a client dials.
        model: The folder that it was built from, as sentence-transformers reads it.
    """

    address: str
    model: Path

    def queries(self, texts: list[str]) -> NDArray[np.float32]:
        """Returns what the real library computes for queries."""
        return self._reference("encode_query", texts)

    def documents(self, texts: list[str]) -> NDArray[np.float32]:
        """Returns what the real library computes for documents."""
        return self._reference("encode_document", texts)

    @contextmanager
    def counted(self, *, queries: int = 0, documents: int = 0) -> Iterator[None]:
        """Checks that so many queries are embedded inside the block, and of documents some and no more."""
        with Client(self.address) as client:
            before = self._embedded(client)
            yield
            found = self._embedded(client) - before
        # A stream that its client left with all answers in hand may end before the last batch is counted.
        assert found[0] == queries, found
        assert min(1, documents) <= found[1] <= documents, found

    def _embedded(self, client: Client) -> NDArray[np.int64]:
        latest = time.monotonic() + _STREAM_SECONDS
        while (counts := client.statistics()[self.address]).open_streams:
            assert time.monotonic() < latest, "a stream does not end"
        return np.array([one.texts.get("ok", 0) for one in (counts.queries, counts.documents)])

    def _reference(self, method: str, texts: list[str]) -> NDArray[np.float32]:
        from sentence_transformers import SentenceTransformer

        vectors: NDArray[np.float32] = getattr(SentenceTransformer(str(self.model), device="cpu"), method)(
            texts
        )
        return vectors


def check(found: Any, wanted: NDArray[np.float32]) -> None:
    """Vectors are those of the real library, within what FP32 sums differ by."""
    np.testing.assert_allclose(np.asarray(found), wanted, atol=2e-5)
