"""Haystack's text and document embedders over a pool: documents are bulk work, queries go before all of it.

Example:
    >>> from haystack import Document, Pipeline
    >>> from indexer.adapters.haystack import EmbedpoolDocumentEmbedder, EmbedpoolTextEmbedder
    >>> embedder = EmbedpoolDocumentEmbedder("127.0.0.1:50051")  # doctest: +SKIP
    >>> embedder.run([Document(content="Sorts a list in place.")])["documents"]  # doctest: +SKIP
    >>> EmbedpoolTextEmbedder("127.0.0.1:50051").run("order the elements")["embedding"]  # doctest: +SKIP

Haystack reads a pipeline back only from modules that its reader trusts:
`Pipeline.load(file, allowed_modules=["indexer.adapters.haystack"])`.
"""

import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any, Self

from indexer.adapters.link import Link, refusal
from indexer.client import Document as Outcome
from indexer.client import TlsConfig

try:
    from haystack import Document, component, default_from_dict, default_to_dict, logging
    from haystack.utils import Secret
    from tqdm import tqdm  # type: ignore[import-untyped]
except ImportError as error:
    raise ImportError(
        f"Haystack cannot be loaded ({error}): install it with pip install 'embedpool[haystack]'"
    ) from error

_log = logging.getLogger(__name__)


class _Embedder:
    """What both components share; their `__init__` calls `_keep` with all that it takes."""

    def _keep(self, **settings: Any) -> None:
        self._settings, self._warm = settings, False
        token, names = settings["token"], ("dimensions", "timeout", "tls", "plaintext_token")
        self._link = Link(
            settings["targets"],
            token=token.resolve_value() if token is not None else None,
            query_prompt=settings["prompt"],
            document_prompt=settings["prompt"],
            **{name: settings[name] for name in names},
        )

    def warm_up(self) -> None:
        """Asks what the pools serve, once, so that a wrong address or token shows before the first text."""
        if not self._warm:
            self._link.pool()
            self._warm = True

    def close(self) -> None:
        """Ends the connections; the next call makes new ones."""
        self._link.close()

    def to_dict(self) -> dict[str, Any]:
        """Returns the component as a dictionary; of the token only where it comes from."""
        tls = self._settings["tls"]
        paths = None if tls is None else {name: value and str(value) for name, value in asdict(tls).items()}
        written: dict[str, Any] = default_to_dict(self, **self._settings | {"tls": paths})
        return written

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Returns the component of a dictionary."""
        settings = dict(data["init_parameters"])
        if settings.get("tls"):
            settings["tls"] = TlsConfig(**settings["tls"])
        made: Self = default_from_dict(cls, data | {"init_parameters": settings})
        return made


@component
class EmbedpoolTextEmbedder(_Embedder):
    """Embeds a query, in the query class.

    Args:
        targets: `HOST:PORT` or `unix:PATH` of pools that serve one model; several in a list or with commas.
        dimensions: Leading values to keep; 0 for all.
        prompt: Name of the prompt of queries; None for the model's own, "" for none.
        timeout: Seconds for a query.
        tls: How to know the pools; None for connections that are not encrypted.
        token: Bearer token.
        plaintext_token: Whether it may travel unencrypted beyond this machine.
    """

    def __init__(
        self,
        targets: str | list[str],
        *,
        dimensions: int = 0,
        prompt: str | None = None,
        timeout: float = 30.0,
        tls: TlsConfig | None = None,
        token: Secret | None = None,
        plaintext_token: bool = False,
    ) -> None:
        self._keep(
            targets=targets,
            dimensions=dimensions,
            prompt=prompt,
            timeout=timeout,
            tls=tls,
            token=token,
            plaintext_token=plaintext_token,
        )

    @component.output_types(embedding=list[float])  # type: ignore[untyped-decorator]
    def run(self, text: str) -> dict[str, Any]:
        """Returns `embedding`, the query's vector; raises TypeError, PoolError or AwayError."""
        return {"embedding": self._link.query([_text(text)])[0].tolist()}

    @component.output_types(embedding=list[float])  # type: ignore[untyped-decorator]
    async def run_async(self, text: str) -> dict[str, Any]:
        """As `run`, without a thread that waits."""
        return {"embedding": (await self._link.aquery([_text(text)]))[0].tolist()}


@component
class EmbedpoolDocumentEmbedder(_Embedder):
    """Embeds documents, in bulk.

    Args:
        targets: `HOST:PORT` or `unix:PATH` of pools that serve one model; several in a list or with commas.
        dimensions: Leading values to keep; 0 for all.
        prompt: Name of the prompt of documents; None for the model's own, "" for none.
        meta_fields_to_embed: Fields of `meta` that are put in front of the content.
        embedding_separator: What is put between them.
        progress_bar: Whether to show one.
        raise_on_failure: Whether a document that is refused is an error; otherwise it is logged and comes
            back without an embedding.
        timeout: Seconds in which a pool must describe itself.
        tls: How to know the pools; None for connections that are not encrypted.
        token: Bearer token.
        plaintext_token: Whether it may travel unencrypted beyond this machine.
    """

    def __init__(
        self,
        targets: str | list[str],
        *,
        dimensions: int = 0,
        prompt: str | None = None,
        meta_fields_to_embed: list[str] | None = None,
        embedding_separator: str = "\n",
        progress_bar: bool = True,
        raise_on_failure: bool = True,
        timeout: float = 30.0,
        tls: TlsConfig | None = None,
        token: Secret | None = None,
        plaintext_token: bool = False,
    ) -> None:
        self._keep(
            targets=targets,
            dimensions=dimensions,
            prompt=prompt,
            meta_fields_to_embed=meta_fields_to_embed,
            embedding_separator=embedding_separator,
            progress_bar=progress_bar,
            raise_on_failure=raise_on_failure,
            timeout=timeout,
            tls=tls,
            token=token,
            plaintext_token=plaintext_token,
        )

    @component.output_types(documents=list[Document])  # type: ignore[untyped-decorator]
    def run(self, documents: list[Document]) -> dict[str, Any]:
        """Returns `documents`: copies with `embedding`; raises TypeError, PoolError, GaveUpError."""
        texts = self._texts(documents)
        with self._bar(len(texts)) as bar:
            outcomes = []
            for outcome in self._link.documents(texts) if texts else ():
                outcomes.append(outcome)
                bar.update()
        return {"documents": self._embedded(documents, outcomes)}

    @component.output_types(documents=list[Document])  # type: ignore[untyped-decorator]
    async def run_async(self, documents: list[Document]) -> dict[str, Any]:
        """As `run`, without a thread that waits."""
        texts = self._texts(documents)
        with self._bar(len(texts)) as bar:
            outcomes = await self._link.adocuments(texts, bar.update) if texts else []
        return {"documents": self._embedded(documents, outcomes)}

    def _bar(self, total: int) -> Any:
        off = not self._settings["progress_bar"]
        return tqdm(total=total, disable=off, desc="Calculating embeddings", file=sys.stderr)

    def _texts(self, documents: list[Document]) -> list[str]:
        if not isinstance(documents, list) or not all(isinstance(one, Document) for one in documents):
            raise TypeError("wanted a list of Documents; a query goes to EmbedpoolTextEmbedder")
        names, separator = self._settings["meta_fields_to_embed"] or (), self._settings["embedding_separator"]
        return [
            separator.join(
                [str(one.meta[name]) for name in names if one.meta.get(name) is not None]
                + [one.content or ""]
            )
            for one in documents
        ]

    def _embedded(self, documents: list[Document], outcomes: Sequence[Outcome]) -> list[Document]:
        if bad := [outcome for outcome in outcomes if not outcome.ok]:
            failure = refusal(bad)
            if self._settings["raise_on_failure"]:
                raise failure
            _log.warning("{failure}", failure=str(failure))
        return [
            replace(document, embedding=None if outcome.vector is None else outcome.vector.tolist())
            for document, outcome in zip(documents, outcomes, strict=True)
        ]


def _text(text: str) -> str:
    if not isinstance(text, str):
        raise TypeError(
            f"wanted a string, got {type(text).__name__}; documents go to EmbedpoolDocumentEmbedder"
        )
    return text
