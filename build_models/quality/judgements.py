"""Evaluation sets: documents, queries, and which documents answer which query.

Read from Parquet, or made of docstrings: a known-item set whose query is a docstring's summary line and
whose only relevant document is the rest of that docstring.
"""

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from build_models.errors import EvaluationError
from build_models.quality.docstrings import Docstring, default_roots, iter_docstrings

KNOWN_ITEM = "docstrings"

# Shorter bodies say too little to be found by, longer ones are mostly cut; both arbitrary.
_BODY_CHARACTERS = (100, 4000)
_SUMMARY_CHARACTERS = (20, 200)


@dataclass(frozen=True)
class EvalSet:
    """One evaluation set; every query is judged.

    Attributes:
        name: What reports call it.
        documents: Document id to text.
        queries: Query id to text.
        judgements: Query id to document id to relevance above 0.
    """

    name: str
    documents: Mapping[str, str]
    queries: Mapping[str, str]
    judgements: Mapping[str, Mapping[str, int]]


def read_eval_set(folder: Path) -> EvalSet:
    """Reads `corpus.parquet` (doc_id, title, text), `queries.parquet` and `qrels.parquet` of a folder.

    A document's text is its title, a newline and its text, as the indexer joins columns; an empty or
    missing title is left out. Queries without a relevant document in the corpus are left out.

    Raises:
        EvaluationError: A file or column is missing, or no query is judged.
    """
    corpus = _columns(folder / "corpus.parquet", ("doc_id", "text"), optional=("title",))
    titles = corpus.get("title") or [None] * len(corpus["doc_id"])
    documents = {
        str(identity): "\n".join(part for part in (title, text) if part)
        for identity, title, text in zip(corpus["doc_id"], titles, corpus["text"], strict=True)
    }
    queries = _columns(folder / "queries.parquet", ("query_id", "text"))
    qrels = _columns(folder / "qrels.parquet", ("query_id", "doc_id", "relevance"))
    judgements: dict[str, dict[str, int]] = {}
    for query, document, relevance in zip(*qrels.values(), strict=True):
        if relevance > 0 and str(document) in documents:
            judgements.setdefault(str(query), {})[str(document)] = int(relevance)
    judged = {
        str(query): text
        for query, text in zip(queries["query_id"], queries["text"], strict=True)
        if str(query) in judgements and text
    }
    if not judged:
        raise EvaluationError(
            f"{folder}: none of {len(queries['query_id'])} queries has a relevant document in the corpus; "
            "compare the ids in qrels.parquet with those in queries.parquet and corpus.parquet"
        )
    return EvalSet(folder.resolve().name, documents, judged, {query: judgements[query] for query in judged})


def known_item_set(count: int, seed: int, source: Iterable[Docstring] | None = None) -> EvalSet:
    """Returns `count` docstrings of the standard library as a known-item set.

    Raises:
        EvaluationError: Fewer than ten docstrings are suitable.
    """
    found = iter_docstrings(default_roots()[:1]) if source is None else source
    chosen: dict[str, Docstring] = {}  # by body: aliases and copies would be answers judged wrong
    for docstring in found:
        if _suits(docstring):
            chosen.setdefault(docstring.body, docstring)
    unique = {docstring.summary.casefold(): docstring for docstring in chosen.values()}
    suitable = sorted(unique.values(), key=lambda docstring: docstring.qualified_name)
    if len(suitable) < 10:
        raise EvaluationError(
            f"only {len(suitable)} docstrings of this Python suit a known-item set; give --eval-data"
        )
    picked = random.Random(seed).sample(suitable, min(count, len(suitable)))  # noqa: S311  not cryptography
    return EvalSet(
        KNOWN_ITEM,
        {docstring.qualified_name: docstring.body for docstring in picked},
        {docstring.qualified_name: docstring.summary for docstring in picked},
        {docstring.qualified_name: {docstring.qualified_name: 1} for docstring in picked},
    )


def sample(data: EvalSet, documents: int, queries: int, seed: int) -> EvalSet:
    """Returns a smaller set; 0 keeps all.

    At most `queries` queries stay, every document judged for them, and others up to `documents` in all.
    """
    chance = random.Random(seed)  # noqa: S311  not cryptography
    kept_queries = _pick(chance, data.queries, queries)
    judgements = {query: data.judgements[query] for query in kept_queries}
    kept_documents = data.documents
    if 0 < documents < len(data.documents):
        needed = {document for judged in judgements.values() for document in judged}
        others = [document for document in data.documents if document not in needed]
        chance.shuffle(others)
        needed.update(islice(others, max(0, documents - len(needed))))
        kept_documents = {key: text for key, text in data.documents.items() if key in needed}
    return EvalSet(data.name, kept_documents, kept_queries, judgements)


def _pick(chance: random.Random, texts: Mapping[str, str], count: int) -> Mapping[str, str]:
    if not 0 < count < len(texts):
        return texts
    chosen = set(chance.sample(list(texts), count))
    return {key: text for key, text in texts.items() if key in chosen}


def _suits(docstring: Docstring) -> bool:
    return (
        _SUMMARY_CHARACTERS[0] <= len(docstring.summary) <= _SUMMARY_CHARACTERS[1]
        and _BODY_CHARACTERS[0] <= len(docstring.body) <= _BODY_CHARACTERS[1]
    )


def _columns(path: Path, wanted: tuple[str, ...], optional: tuple[str, ...] = ()) -> dict[str, list[Any]]:
    try:
        present = pq.read_schema(path).names
        missing = [name for name in wanted if name not in present]
        if missing:
            raise EvaluationError(f"{path} has no column {', '.join(missing)}; it has {', '.join(present)}")
        table = pq.read_table(path, columns=[name for name in (*wanted, *optional) if name in present])
    except FileNotFoundError as error:
        raise EvaluationError(
            f"{path} is missing; evaluation data is corpus.parquet, queries.parquet and qrels.parquet"
        ) from error
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise EvaluationError(f"cannot read {path}: {error}") from error
    return {name: table.column(name).to_pylist() for name in table.column_names}
