"""Asks an index: texts or vectors in, documents with scores out."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from indexer.client import Access
from indexer.errors import ConfigError, ModelMismatchError
from indexer.search.following import Following
from indexer.search.hits import Ask, Hit
from indexer.search.query_pool import WAIT_SECONDS, QueryPool
from indexer.search.snapshot import Snapshot


class Searcher:
    """An index and the pools that embed queries for it; a context manager.

    Guarantees: one searcher may be used from many threads at once. Each search sees one generation from begin
    to end: that of the last `reload`, and before one that which was in use when the searcher was made. No
    search fails because the index was updated or compacted meanwhile.

    Args:
        index: Folder of the index.
        targets: Addresses of pools that serve the index's model, whichever is there is asked; None for a
            searcher of vectors alone.
        access: What opens the pools; None for nothing.
        wait_seconds: How long pools that are away or overloaded are waited for.
        mapped: Leave the FAISS index in its file and let the kernel fetch the pages that searches touch, in
            place of reading it whole.

    Raises:
        StoreError: The folder is no complete index.
        PoolError: No pool can be reached.
        ModelMismatchError: A pool serves another model.

    Example:
        >>> from indexer.search import Searcher
        >>> with Searcher(Path("index"), "127.0.0.1:50051") as searcher:  # doctest: +SKIP
        ...     for hit in searcher.search(["how to sort a list"], k=3, columns=("url",))[0]:
        ...         print(hit.rank, hit.score, hit.doc_id, hit.columns["url"])
        ...     searcher.search(["sort"], filter="lang = 'en' and year >= 2020")
        >>> with Searcher(Path("index")) as searcher:  # no pool: vectors of one's own  # doctest: +SKIP
        ...     hits = searcher.search_vectors(vectors, k=3)
    """

    def __init__(
        self,
        index: Path,
        targets: str | Sequence[str] | None = None,
        access: Access | None = None,
        wait_seconds: float = WAIT_SECONDS,
        *,
        mapped: bool = False,
    ) -> None:
        self._root = index
        self._following = Following(index, mapped=mapped)
        model = self._following.snapshot.plan.model
        self._pool = QueryPool(index, model, targets, access, wait_seconds) if targets is not None else None

    def __enter__(self) -> "Searcher":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connections to the pools."""
        if self._pool is not None:
            self._pool.close()

    @property
    def count(self) -> int:
        """Number of documents that can be found."""
        return self._following.snapshot.documents

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self._following.snapshot.dim

    @property
    def unreached(self) -> list[str]:
        """Why pools take no part, a line for each that does not."""
        return self._pool.unreached if self._pool is not None else []

    def reload(self) -> bool:
        """Goes on with the generation that is in use by now; searches under way end on theirs.

        Returns:
            Whether it is another than before: documents came or went, or the index was tuned anew.

        Raises:
            StoreError: It cannot be opened; the one before stays in use.
        """
        return self._following.reload()

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Returns the vectors of queries, float32 `[texts, dim]`; raises as `search` does."""
        if self._pool is None:
            raise ConfigError(
                f"this searcher of {self._root} has no pool to embed texts; "
                "give it the address of one, or search by vectors"
            )
        return self._pool.embed(texts)

    def search(
        self,
        texts: Sequence[str],
        k: int = 10,
        *,
        columns: Sequence[str] = (),
        filter: str = "",  # noqa: A002 - what everybody calls it
        passages: bool = False,
    ) -> list[list[Hit]]:
        """Returns for each text its best `k` documents, fewer if the index holds fewer.

        Args:
            texts: Queries.
            k: Hits for each.
            columns: Columns of the inputs that hits are to carry, read from the inputs.
            filter: Only documents whose columns meet this, as `lang = 'en' and year >= 2020`; "" for all.
            passages: Tell which chunk of a document was nearest.

        Raises:
            ConfigError: `k` is below 1, a text is empty, there is no pool, or a column or the filter is none.
            InputError: An input whose columns are needed is gone or has changed.
            PoolError: The pool refused a text or stayed away.
            ModelMismatchError: The index was given another model, or the pool was.
            StoreError: The index is damaged.
        """
        ask = Ask(k, tuple(columns), filter, passages)
        vectors = self.embed(texts)
        return self._following.search(lambda snapshot: self._find(snapshot, vectors, ask))

    def search_vectors(
        self,
        vectors: NDArray[np.floating],
        k: int = 10,
        *,
        columns: Sequence[str] = (),
        filter: str = "",  # noqa: A002 - what everybody calls it
        passages: bool = False,
    ) -> list[list[Hit]]:
        """Returns for each vector its best `k` documents, fewer if the index holds fewer.

        Args:
            vectors: Any type of float, `[queries, dim]`, made by the index's model.
            k: Hits for each.
            columns: As in `search`.
            filter: As in `search`.
            passages: As in `search`.

        Raises:
            ConfigError: `k` is below 1, the shape is another, a value is no number, or a column or the filter
                is none.
            InputError: An input whose columns are needed is gone or has changed.
            StoreError: The index is damaged.
        """
        ask = Ask(k, tuple(columns), filter, passages)
        return self._following.search(lambda snapshot: snapshot.find(vectors, ask).hits)

    def _find(self, snapshot: Snapshot, vectors: NDArray[np.float32], ask: Ask) -> list[list[Hit]]:
        if self._pool is not None and snapshot.fingerprint != self._pool.model.fingerprint:
            raise ModelMismatchError(
                f"index {self._root} holds vectors of model {snapshot.plan.model.label()} by now, and the "
                f"pool's model was {self._pool.model.label()}: make a new searcher with the right pool"
            )
        return snapshot.find(vectors, ask).hits
