"""The methods of a `SentenceTransformer` over a pool, for code that calls `encode`; needs no such library.

Example:
    >>> from indexer.adapters.sentence_transformers import EmbedpoolEncoder
    >>> model = EmbedpoolEncoder("127.0.0.1:50051")  # doctest: +SKIP
    >>> documents = model.encode_document(["Sorts a list in place.", "Opens a file."])  # doctest: +SKIP
    >>> model.similarity(model.encode_query("order the elements"), documents)  # doctest: +SKIP
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, Self, Unpack

import numpy as np
from numpy.typing import NDArray

from indexer.adapters.link import Link, LinkWords, vectors_of
from indexer.client import Document, Pool
from indexer.errors import ConfigError

_NO_PROMPT = ""
_WITHOUT_EFFECT = frozenset({"batch_size", "chunk_size", "device", "output_value", "pool"})

# A quantization that needs the vectors alone; those of int8 and uint8 depend on what else is encoded.
_PRECISIONS: Final[Mapping[str, Callable[[NDArray[np.float32]], NDArray[Any]]]] = {
    "float32": lambda vectors: vectors,
    "ubinary": lambda vectors: np.packbits(vectors > 0, axis=-1),
    "binary": lambda vectors: (np.packbits(vectors > 0, axis=-1).astype(np.int16) - 128).astype(np.int8),
}


class EmbedpoolEncoder:
    """Encodes as a `SentenceTransformer` does: same arguments, same arrays, where a pool can do it.

    `encode_query` is the query class with the model's prompt for queries, `encode_document` bulk work with
    that for documents. `encode` adds no prompt unless one is asked for, or the model has one for all texts;
    one text is a query there, a list is bulk work. The pool batches by itself: `batch_size` changes nothing.
    What a pool cannot do is a ConfigError.

    Args:
        targets: `HOST:PORT` or `unix:PATH` of pools of one model; several in a sequence or with commas.
        truncate_dim: Leading values to keep; None for all. A normalized model's are normalized again.
        settings: Timeout, prompts, TLS and token: the fields of `link.Link`.

    Raises:
        ConfigError: A setting is impossible.

    Attributes:
        truncate_dim: As above; may be changed.
        similarity_fn_name: "cosine".
        device: "cpu".
    """

    similarity_fn_name: Final = "cosine"
    device: Final = "cpu"

    def __init__(
        self,
        targets: str | Sequence[str],
        truncate_dim: int | None = None,
        **settings: Unpack[LinkWords],
    ) -> None:
        self._link = Link(targets, **settings)
        self.truncate_dim = truncate_dim or self._link.dimensions or None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connections; the next call makes new ones."""
        self._link.close()

    def encode(self, inputs: str | Sequence[str], prompt_name: str | None = None, **words: Any) -> Any:
        """Returns `[dim]` for one text, `[texts, dim]` for several.

        Args:
            inputs: The texts.
            prompt_name: Name of one of `prompts`; None for none, or the one that
                the model has for all texts.
            words: `prompt` (text to put in front, instead of a named one), `normalize_embeddings`,
                `truncate_dim`, `precision` ("float32", "binary", "ubinary"), `convert_to_tensor`,
                `convert_to_numpy`, `show_progress_bar` as there; `batch_size`, `device` and `chunk_size`
                change nothing.

        Raises:
            ConfigError: The pool cannot do it.
            PoolError: Texts were refused, for example empty ones; it names their indices.
            AwayError: No pool answers.
        """
        name = self._common_prompt if prompt_name is None else prompt_name
        return self._encode(inputs, name, as_query=isinstance(inputs, str), **words)

    def encode_query(self, inputs: str | Sequence[str], prompt_name: str | None = None, **words: Any) -> Any:
        """As `encode`, in the query class; without `prompt_name` with the model's prompt for queries."""
        name = self._link.query_prompt if prompt_name is None else prompt_name
        return self._encode(inputs, name, as_query=True, **words)

    def encode_document(
        self, inputs: str | Sequence[str], prompt_name: str | None = None, **words: Any
    ) -> Any:
        """As `encode`, as bulk work; without `prompt_name` with the model's prompt for documents."""
        name = self._link.document_prompt if prompt_name is None else prompt_name
        return self._encode(inputs, name, as_query=False, **words)

    def _encode(
        self,
        inputs: str | Sequence[str],
        prompt_name: str | None,
        *,
        as_query: bool,
        prompt: str | None = None,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        precision: str = "float32",
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        show_progress_bar: bool | None = None,
        **others: Any,
    ) -> Any:
        _check(precision, others)
        texts = _texts(inputs) if prompt is None else [prompt + text for text in _texts(inputs)]
        words = {
            "prompt_name": prompt_name if prompt is None else _NO_PROMPT,
            "dimensions": truncate_dim or self.truncate_dim or 0,
        }
        if not texts:
            vectors = np.zeros((0,), np.float32)  # as there
        elif as_query:
            vectors = self._link.query(texts, **words)
        else:
            outcomes = self._link.documents(texts, **words)
            vectors = vectors_of(_with_bar(outcomes, len(texts)) if show_progress_bar else outcomes)
        if normalize_embeddings:
            vectors = _unit(vectors)
        rows = _PRECISIONS[precision](vectors)
        found = rows[0] if isinstance(inputs, str) else rows
        if convert_to_tensor or not convert_to_numpy:
            tensor = _tensor(found)
            return tensor if convert_to_tensor or isinstance(inputs, str) else list(tensor)
        return found

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Returns cosines `[embeddings1, embeddings2]`: a tensor where one of them is one, else an array."""
        first, second = np.atleast_2d(np.asarray(embeddings1)), np.atleast_2d(np.asarray(embeddings2))
        return _as_given(_unit(first) @ _unit(second).T, embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Returns cosines `[embeddings]` of row i with row i; a tensor where one of them is one."""
        cosines = (_unit(np.asarray(embeddings1)) * _unit(np.asarray(embeddings2))).sum(axis=-1)
        return _as_given(cosines, embeddings1, embeddings2)

    def get_embedding_dimension(self) -> int:
        """Returns how many values a vector has; raises AwayError."""
        return min(self._pool.dim, self.truncate_dim or self._pool.dim)

    get_sentence_embedding_dimension = get_embedding_dimension

    @contextmanager
    def truncate_embeddings(self, truncate_dim: int | None) -> Iterator[None]:
        """Encodes to so many leading values inside the context."""
        before, self.truncate_dim = self.truncate_dim, truncate_dim
        try:
            yield
        finally:
            self.truncate_dim = before

    @property
    def max_seq_length(self) -> int:
        """Tokens of a text, special ones included; what lies behind them is cut."""
        return self._pool.max_tokens

    @property
    def prompts(self) -> Mapping[str, str]:
        """The model's prompts: name to the text put in front."""
        return self._pool.prompts

    @property
    def model_card_data(self) -> "_NoCard":
        """Takes what evaluators write about a model, and forgets it."""
        return _NoCard()

    @property
    def _common_prompt(self) -> str | None:
        """That of a model which has one for all texts; else none."""
        return None if self._pool.query_prompt == self._pool.document_prompt else _NO_PROMPT

    @functools.cached_property
    def _pool(self) -> Pool:
        return self._link.pool()


class _NoCard:
    def set_evaluation_metrics(self, *_: Any) -> None:
        """Does nothing: the model of a pool has no card here."""


def _check(precision: str, others: Mapping[str, Any]) -> None:
    """Raises ConfigError for what a pool cannot do, or what no encoder knows."""
    if precision not in _PRECISIONS:
        raise ConfigError(
            f"precision is {precision!r}, wanted one of {', '.join(_PRECISIONS)}; for int8 and uint8 encode "
            "as float32 and call sentence_transformers.quantize_embeddings with ranges of your own"
        )
    if others.get("output_value", "sentence_embedding") != "sentence_embedding":
        raise ConfigError(
            f"output_value is {others['output_value']!r}: a pool gives vectors of texts, none of tokens"
        )
    if others.get("pool") is not None:
        raise ConfigError("pool= starts processes of sentence-transformers: the pool here has its own")
    if unknown := sorted(set(others) - _WITHOUT_EFFECT):
        raise ConfigError(f"encode does not know {', '.join(unknown)}")


def _texts(inputs: str | Sequence[str]) -> list[str]:
    texts = [inputs] if isinstance(inputs, str) else list(inputs)
    if wrong := [type(one).__name__ for one in texts if not isinstance(one, str)]:
        raise ConfigError(f"an input is of type {wrong[0]}, wanted texts: nothing else can be embedded")
    return texts


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns vectors of unit length; those of length 0 stay as they are, as in torch's normalize."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    unit: NDArray[np.float32] = vectors / np.maximum(lengths, np.float32(1e-12))
    return unit


def _with_bar(documents: Iterator[Document], total: int) -> Iterator[Document]:
    try:
        from tqdm.auto import tqdm  # type: ignore[import-untyped]
    except ImportError as error:
        raise ConfigError(f"show_progress_bar needs tqdm ({error}): pip install tqdm") from error
    return iter(tqdm(documents, desc="Texts", total=total))


def _tensor(array: NDArray[Any]) -> Any:
    try:
        import torch
    except ImportError as error:
        raise ConfigError(f"tensors need torch ({error}): pip install torch, or take arrays") from error
    return torch.from_numpy(np.ascontiguousarray(array))


def _as_given(values: NDArray[Any], *given: Any) -> Any:
    """Returns values as a tensor where one of the arguments was one."""
    return _tensor(values) if any(hasattr(one, "detach") for one in given) else values
