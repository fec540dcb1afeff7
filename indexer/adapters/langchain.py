"""LangChain's `Embeddings` over a pool: vector stores index with it as bulk work, and ask before all of it.

Example:
    >>> from langchain_core.vectorstores import InMemoryVectorStore
    >>> from indexer.adapters.langchain import EmbedpoolEmbeddings
    >>> store = InMemoryVectorStore(EmbedpoolEmbeddings("127.0.0.1:50051"))  # doctest: +SKIP
    >>> store.add_texts(["Sorts a list in place.", "Opens a file."])  # doctest: +SKIP
    >>> store.similarity_search("order the elements", k=1)  # doctest: +SKIP
"""

from collections.abc import Sequence
from typing import Self, Unpack

from indexer.adapters.link import Link, LinkWords, vectors_of

try:
    from langchain_core.embeddings import Embeddings
except ImportError as error:
    raise ImportError(
        f"LangChain cannot be loaded ({error}): install it with pip install 'embedpool[langchain]'"
    ) from error


class EmbedpoolEmbeddings(Embeddings):  # type: ignore[misc]  # no types are published
    """Embeds queries in the query class with the model's prompt for queries, documents in bulk with theirs.

    A context manager, where connections should end before the program does. Can be pickled: connections are
    made anew.

    Args:
        targets: `HOST:PORT` or `unix:PATH` of pools of one model; several in a sequence or with commas.
        settings: Dimensions, prompts, timeout, TLS and token: the fields of `link.Link`.

    Raises:
        ConfigError: A setting is impossible.
    """

    def __init__(self, targets: str | Sequence[str], **settings: Unpack[LinkWords]) -> None:
        self._link = Link(targets, **settings)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._link!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def embed_query(self, text: str) -> list[float]:
        """Returns the vector of a query; raises PoolError or AwayError."""
        vector: list[float] = self._link.query([text])[0].tolist()
        return vector

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Returns the vectors of documents, in their order.

        Raises:
            PoolError: Texts were refused, for example empty ones; it names their indices.
            GaveUpError: All pools were away for too long.
        """
        vectors: list[list[float]] = vectors_of(self._link.documents(texts)).tolist() if texts else []
        return vectors

    async def aembed_query(self, text: str) -> list[float]:
        """As `embed_query`, without a thread that waits."""
        vector: list[float] = (await self._link.aquery([text]))[0].tolist()
        return vector

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """As `embed_documents`, without a thread that waits."""
        if not texts:
            return []
        vectors: list[list[float]] = vectors_of(await self._link.adocuments(texts)).tolist()
        return vectors

    def close(self) -> None:
        """Ends the connections; the next call makes new ones."""
        self._link.close()
