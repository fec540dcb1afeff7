"""What all adapters share: a client for threads and asyncio; vectors, or an error that names the text.

Guarantees: may be called from many threads and from several event loops, at the same time; opened when first
used, and again after `close`; what is pickled is the settings.
Assumes: who forks has not used it before, as with gRPC everywhere.
"""

import asyncio
import atexit
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, field, fields
from pathlib import Path
from typing import Any, Self, TypedDict, TypeVar

import numpy as np
from numpy.typing import NDArray

from indexer.client import Chunking, Client, Document, Embeddings, Options, Pool, TlsConfig, VectorType
from indexer.errors import PoolError

# Texts of one query call: more of them have a timeout each. Arbitrary, some seconds of one core's work.
_QUERIES_PER_CALL = 64
_MOST_NAMED = 3  # texts without a vector that an error tells of

T = TypeVar("T")


class LinkWords(TypedDict, total=False):
    """The keywords of an adapter: the fields of `Link`, which says what they are."""

    dimensions: int
    query_prompt: str | None
    document_prompt: str | None
    vector_type: VectorType | str
    chunking: Chunking | None
    timeout: float
    tls: TlsConfig | None
    token: str | Path | None
    plaintext_token: bool


@dataclass(eq=False)
class Link:
    """How an adapter reaches pools, and how it has texts embedded.

    Attributes:
        targets: `HOST:PORT` or `unix:PATH` of pools of one model; several in a sequence or with commas.
        dimensions: Leading values to keep (Matryoshka models), normalized again; 0 for all.
        query_prompt: Name of the prompt of queries; None for the model's own, "" for no prompt.
        document_prompt: Name of the prompt of documents, likewise.
        vector_type: How values travel; they arrive as float32.
        chunking: How texts longer than a window are cut; None for cutting their end.
        timeout: Seconds for a query call; documents take as long as they need.
        tls: How to know the pools; None for connections that are not encrypted.
        token: Bearer token, or the path of the file that holds it.
        plaintext_token: Whether a token may travel unencrypted beyond this machine.

    Raises:
        ConfigError: A setting is impossible; some are known when the first text is embedded.
    """

    targets: str | Sequence[str]
    _: KW_ONLY
    dimensions: int = 0
    query_prompt: str | None = None
    document_prompt: str | None = None
    vector_type: VectorType | str = VectorType.FLOAT32
    chunking: Chunking | None = None
    timeout: float = 30.0
    tls: TlsConfig | None = None
    token: str | Path | None = field(default=None, repr=False)
    plaintext_token: bool = False

    def __post_init__(self) -> None:
        """Checks what can be known before a pool is asked; raises ConfigError."""
        Options(VectorType(self.vector_type), self.dimensions, chunking=self.chunking)
        self._lock = threading.Lock()
        self._client: _TwoWayClient | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Leaves the connections out: they are made anew where this is unpickled, or copied."""
        return {one.name: getattr(self, one.name) for one in fields(self)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Takes the settings over."""
        self.__dict__.update(state)
        self.__post_init__()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def pool(self) -> Pool:
        """Returns what the pools serve; raises AwayError, ModelMismatchError or PoolError."""
        return self._open().model(timeout=self.timeout)

    def query(self, texts: Sequence[str], **words: Any) -> NDArray[np.float32]:
        """Returns `[texts, dim]` float32 of queries, in the query class; `words` go before the settings.

        Raises:
            AwayError: No pool answered within the timeout.
            PoolError: A pool refused, for example an empty text; no vector is returned then.
        """
        client, options = self._open(), self._options(self.query_prompt, words)
        return _rows([client.embed_query(part, timeout=self.timeout, **options) for part in _parts(texts)])

    async def aquery(self, texts: Sequence[str], **words: Any) -> NDArray[np.float32]:
        """As `query`, for asyncio."""
        client, options = self._open(), self._options(self.query_prompt, words)
        asks = [client.ask_query(part, timeout=self.timeout, **options) for part in _parts(texts)]
        return _rows([await client.wait(ask) for ask in asks])

    def documents(self, texts: Iterable[str], **words: Any) -> Iterator[Document]:
        """Yields an outcome for each document, in their order, in the bulk class; `words` go first.

        Raises:
            GaveUpError: All pools were away for too long.
            PoolError: Every pool refused the call as a whole.
        """
        return self._open().embed_documents(texts, **self._options(self.document_prompt, words))

    async def adocuments(
        self, texts: Sequence[str], note: Callable[[], object] = lambda: None, **words: Any
    ) -> list[Document]:
        """As `documents`, for asyncio; `note` is called for each outcome, in the client's thread."""
        client = self._open()
        return await client.wait(
            client.ask_documents(texts, note, **self._options(self.document_prompt, words))
        )

    def close(self) -> None:
        """Ends the connections and every call on them; the next call makes new ones."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def _options(self, prompt: str | None, words: dict[str, Any]) -> dict[str, Any]:
        return {
            "dimensions": self.dimensions,
            "prompt_name": prompt,
            "vector_type": self.vector_type,
            "chunking": self.chunking,
        } | words

    def _open(self) -> "_TwoWayClient":
        with self._lock:
            if self._client is None:
                self._client = _TwoWayClient(
                    self.targets, tls=self.tls, token=self.token, plaintext_token=self.plaintext_token
                )
                _open_clients.add(self._client)
                weakref.finalize(self, self._client.abandon).atexit = False
            return self._client


class _TwoWayClient(Client):
    """The client for threads, whose calls may be awaited from any event loop as well."""

    async def ask_query(self, texts: Sequence[str], **words: Any) -> Embeddings:
        return await self._client.embed_query(texts, **words)

    async def ask_documents(
        self, texts: Sequence[str], note: Callable[[], object], **words: Any
    ) -> list[Document]:
        documents = []
        async for document in self._client.embed_documents(texts, **words):
            documents.append(document)
            note()
        return documents

    async def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs work in the client's loop; who is cancelled here cancels it there."""
        if self._loop.is_closed():
            work.close()
            raise PoolError("the client is closed; make a new one")
        try:
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise PoolError("the client was closed during the call") from None


def vectors_of(documents: Iterable[Document]) -> NDArray[np.float32]:
    """Returns `[documents, dim]` float32, `[0, 0]` for none; raises PoolError naming texts without."""
    vectors, bad = [], []
    for document in documents:
        if document.vector is None:
            bad.append(document)
        else:
            vectors.append(document.vector)
    if bad:
        raise refusal(bad)
    return np.stack(vectors) if vectors else np.zeros((0, 0), np.float32)


def refusal(bad: Sequence[Document]) -> PoolError:
    """Returns the error that tells which texts have no vector, and why; `code` is that of the first."""
    told = "; ".join(f"text {one.index}: {one.code}: {one.message}" for one in bad[:_MOST_NAMED])
    more = f"; and {len(bad) - _MOST_NAMED} more" if len(bad) > _MOST_NAMED else ""
    subject = "a text has" if len(bad) == 1 else f"{len(bad)} texts have"
    return PoolError(f"{subject} no vector, counted from 0: {told}{more}", bad[0].code)


def _parts(texts: Sequence[str]) -> list[Sequence[str]]:
    return [texts[start : start + _QUERIES_PER_CALL] for start in range(0, len(texts), _QUERIES_PER_CALL)]


def _rows(parts: Sequence[Embeddings]) -> NDArray[np.float32]:
    return np.concatenate([one.vectors for one in parts]) if parts else np.zeros((0, 0), np.float32)


_open_clients: "weakref.WeakSet[_TwoWayClient]" = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """Ends in order what nobody closed, while there are threads to do it."""
    for client in list(_open_clients):
        client.close()
