"""Asks an index: texts in, documents with scores out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from indexer import faiss_index, generations
from indexer.client import Access, Client, unreachable
from indexer.errors import AwayError, ConfigError, ModelMismatchError, StoreError
from indexer.layout import Layout
from indexer.ledger import load_plan
from indexer.unit_file import read_unit

_CACHED_UNITS = 256  # whose ids are kept in memory; some 100 kB each
_WAIT_SECONDS = 10.0  # for a pool that is away or overloaded


@dataclass(frozen=True)
class Hit:
    """A document that was found: rank from 1, inner product with the query, id."""

    rank: int
    score: float
    doc_id: str


class Searcher:
    """An index and the pools that embed queries for it; a context manager.

    Args:
        index: Folder of the index.
        targets: Addresses of pools that serve the index's model; whichever is there is asked.
        access: What opens them; None for nothing.
        wait_seconds: How long pools that are away or overloaded are waited for.

    Raises:
        StoreError: The folder is no complete index.
        PoolError: No pool can be reached.
        ModelMismatchError: A pool serves another model.
    """

    def __init__(
        self,
        index: Path,
        targets: str | Sequence[str],
        access: Access | None = None,
        wait_seconds: float = _WAIT_SECONDS,
    ) -> None:
        self._layout = Layout(index)
        self._plan = load_plan(self._layout)
        self._wait_seconds = wait_seconds
        generation = generations.current(self._layout)
        if generation is None:
            raise StoreError(f"{index} is not complete: run its 'python -m indexer run' command again")
        access = access or Access()
        self._client = Client(
            targets, tls=access.tls, token=access.token, plaintext_token=access.plaintext_token
        )
        try:
            self._check_pools()
        except BaseException:
            self._client.close()
            raise
        self._index = faiss_index.read_index(self._layout.index(generation.name))
        self._index.configure(generation.meta.search)
        self._ids_of_unit = lru_cache(_CACHED_UNITS)(self._read_ids)

    def __enter__(self) -> "Searcher":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection to the pool."""
        self._client.close()

    def search(self, texts: Sequence[str], k: int = 10) -> list[list[Hit]]:
        """Returns for each text its best `k` documents, fewer if the index holds fewer.

        Raises:
            ConfigError: `k` is below 1, or a text is empty.
            PoolError: The pool refused a text or stayed away.
        """
        if k < 1:
            raise ConfigError(f"k is {k}, wanted at least 1")
        for position, text in enumerate(texts):
            if not text.strip():
                raise ConfigError(f"query {position + 1} is empty; give it words")
        return list(self._search_some(texts, k)) if texts else []

    def _search_some(self, texts: Sequence[str], k: int) -> Iterator[list[Hit]]:
        found = self._client.embed_query(texts, timeout=self._wait_seconds)
        self._check_model(found.target, found.fingerprint, found.fingerprint[:12])
        scores, ids = self._index.search(found.vectors, min(k, max(1, self._index.count)))
        for of_query, row_ids in zip(scores, ids, strict=True):
            pairs = [
                (float(score), int(row)) for score, row in zip(of_query, row_ids, strict=True) if row >= 0
            ]
            yield [Hit(rank, score, self.doc_id(row)) for rank, (score, row) in enumerate(pairs, 1)]

    def doc_id(self, row_id: int) -> str:
        """Returns the document id behind a FAISS id; raises StoreError when the units lack it."""
        unit = self._plan.unit_of(row_id)
        rows, doc_ids = self._ids_of_unit(unit.number)
        position = int(np.searchsorted(rows, row_id - unit.base + unit.start))
        if position == len(rows) or rows[position] != row_id - unit.base + unit.start:
            raise StoreError(f"FAISS id {row_id} is in no unit; run 'python -m indexer verify'")
        return doc_ids[position]

    def _read_ids(self, number: int) -> tuple[NDArray[np.int64], list[str]]:
        stored = read_unit(self._layout.unit(number), doc_ids=True)
        return stored.rows, stored.doc_ids

    @property
    def unreached(self) -> list[str]:
        """Why pools take no part, a line for each that does not."""
        return [str(unreachable(one.address, one.error)) for one in self._client.targets if one.error]

    def _check_pools(self) -> None:
        try:
            pool = self._client.model(timeout=self._wait_seconds)
        except AwayError as error:
            addresses = ",".join(target.address for target in self._client.targets)
            raise unreachable(addresses, str(error)) from error
        self._check_model(self._client.targets[0].address, pool.fingerprint, pool.model.label())

    def _check_model(self, target: str, fingerprint: str, label: str) -> None:
        if fingerprint != self._plan.model.fingerprint:
            raise ModelMismatchError(
                f"index {self._layout.root} holds vectors of model {self._plan.model.label()}, "
                f"worker {target} serves {label}: start the right worker, or build a new index"
            )
