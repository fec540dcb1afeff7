"""LlamaIndex's `BaseEmbedding` over a pool: nodes are bulk work, queries go before all of it.

Example:
    >>> from llama_index.core import Document, VectorStoreIndex
    >>> from indexer.adapters.llama_index import EmbedpoolEmbedding
    >>> embedding = EmbedpoolEmbedding(targets="127.0.0.1:50051")  # doctest: +SKIP
    >>> index = VectorStoreIndex.from_documents([Document(text="Sorts a list.")], embed_model=embedding)
    ... # doctest: +SKIP
    >>> index.as_retriever(similarity_top_k=1).retrieve("order the elements")  # doctest: +SKIP
"""

from pathlib import Path
from typing import Any, Self

from indexer.adapters.link import Link, vectors_of
from indexer.client import Chunking, TlsConfig

try:
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from llama_index.core.bridge.pydantic import Field, PrivateAttr
except ImportError as error:
    raise ImportError(
        f"LlamaIndex cannot be loaded ({error}): install it with pip install 'embedpool[llama-index]'"
    ) from error

_BATCH = (
    2048  # the most that LlamaIndex allows: a whole batch is one bulk stream, and the pool cuts it itself
)


class EmbedpoolEmbedding(BaseEmbedding):  # type: ignore[misc]  # no types are published
    """Embeds queries in the query class with the model's prompt for queries, nodes in bulk with theirs.

    A context manager, where connections should end before the program does. Can be pickled and written as
    JSON; the token stays out of JSON.

    Raises:
        ConfigError: A setting is impossible.
    """

    targets: str | list[str] = Field(description="HOST:PORT or unix:PATH of pools that serve one model.")
    dimensions: int = Field(default=0, description="Leading values to keep; 0 for all.")
    query_prompt: str | None = Field(
        default=None, description="Name of the prompt of queries; None for the model's own."
    )
    document_prompt: str | None = Field(
        default=None, description="Name of the prompt of documents; None for the model's own."
    )
    chunking: Chunking | None = Field(default=None, description="How long texts are cut into windows.")
    timeout: float = Field(default=30.0, description="Seconds for a query.", gt=0)
    tls: TlsConfig | None = Field(default=None, description="How to know the pools; None for no encryption.")
    token: str | Path | None = Field(
        default=None, description="Bearer token, or the file that holds it.", exclude=True, repr=False
    )
    plaintext_token: bool = Field(
        default=False, description="Whether a token may travel unencrypted beyond this machine."
    )
    embed_batch_size: int = Field(default=_BATCH, description="Nodes of one bulk stream.", gt=0, le=_BATCH)
    _link: Link = PrivateAttr()

    def __init__(self, **data: Any) -> None:
        data.setdefault("model_name", "embedpool")
        super().__init__(**data)
        self._link = Link(
            self.targets,
            dimensions=self.dimensions,
            query_prompt=self.query_prompt,
            document_prompt=self.document_prompt,
            chunking=self.chunking,
            timeout=self.timeout,
            tls=self.tls,
            token=self.token,
            plaintext_token=self.plaintext_token,
        )

    @classmethod
    def class_name(cls) -> str:
        """Returns the name under which LlamaIndex writes it down."""
        return "EmbedpoolEmbedding"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connections; the next call makes new ones."""
        self._link.close()

    def _get_query_embedding(self, query: str) -> list[float]:
        vector: list[float] = self._link.query([query])[0].tolist()
        return vector

    async def _aget_query_embedding(self, query: str) -> list[float]:
        vector: list[float] = (await self._link.aquery([query]))[0].tolist()
        return vector

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return (await self._aget_text_embeddings([text]))[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        vectors: list[list[float]] = vectors_of(self._link.documents(texts)).tolist()
        return vectors

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        vectors: list[list[float]] = vectors_of(await self._link.adocuments(texts)).tolist()
        return vectors
