"""Evaluation sets: documents, queries, and which documents answer which query.

Read from Parquet, or made of docstrings: a known-item set whose query is a docstring's summary line and
whose only relevant document is the rest of that docstring.
"""

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from build_models.errors import EvaluationError
from build_models.quality.docstrings import Docstring, default_roots, iter_docstrings
from build_models.quality.tables import Column, read_table

KNOWN_ITEM = "docstrings"

# Below these a set says nothing: with ten documents every model's ten best are the same, and a bound drawn
# from a handful of queries is what chance made of it. Both arbitrary.
MIN_DOCUMENTS = 20
MIN_QUERIES = 10
# trec_eval, which measures, reserves memory for every grade up to the highest: 2^31 of them end the process.
# People grade to 4 or so; the limit itself is arbitrary.
MAX_RELEVANCE = 1000

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


def read_eval_sets(folders: Sequence[Path]) -> list[EvalSet]:
    """Reads several sets; those whose folders have one name are called by their parent's name too.

    Raises:
        EvaluationError: One of them cannot be used, or is given twice.
    """
    places = [folder.resolve() for folder in folders]
    if len(set(places)) < len(places):
        raise EvaluationError(
            f"evaluation data {_twice(map(str, places))} is given twice; give each set once"
        )
    names = Counter(place.name for place in places)
    return [
        replace(read_eval_set(folder), name=f"{place.parent.name}-{place.name}")
        if names[place.name] > 1
        else read_eval_set(folder)
        for folder, place in zip(folders, places, strict=True)
    ]


def read_eval_set(folder: Path) -> EvalSet:
    """Reads `corpus.parquet` (doc_id, title, text), `queries.parquet` and `qrels.parquet` of a folder.

    A document's text is its title, a newline and its text, as the indexer joins columns; an empty or
    missing title is left out. Queries without a text or a relevant document in the corpus are left out.

    Raises:
        EvaluationError: A file or column is missing or wrong, an id is there twice, a pair of query and
            document is judged in two ways or beyond all grades, or no query is judged.
    """
    corpus = read_table(
        folder / "corpus.parquet", {"doc_id": Column.ID, "text": Column.TEXT}, {"title": Column.TEXT}
    )
    titles = corpus.get("title") or [None] * len(corpus["doc_id"])
    texts = [
        "\n".join(part for part in (title, text) if part)
        for title, text in zip(titles, corpus["text"], strict=True)
    ]
    documents = _by_id(folder / "corpus.parquet", "doc_id", corpus["doc_id"], texts)
    asked = read_table(folder / "queries.parquet", {"query_id": Column.ID, "text": Column.TEXT})
    queries = _by_id(folder / "queries.parquet", "query_id", asked["query_id"], asked["text"])
    judgements = _read_judgements(folder / "qrels.parquet", documents)
    judged = {query: text for query, text in queries.items() if query in judgements and text}
    if not judged:
        raise EvaluationError(
            f"{folder}: none of {len(queries)} queries has a relevant document among {len(documents)}; "
            "compare the ids in qrels.parquet with those in queries.parquet and corpus.parquet"
        )
    return EvalSet(folder.resolve().name, documents, judged, {query: judgements[query] for query in judged})


def known_item_set(count: int, seed: int, source: Iterable[Docstring] | None = None) -> EvalSet:
    """Returns `count` docstrings of the standard library as a known-item set.

    Raises:
        EvaluationError: Too few docstrings are suitable.
    """
    found = iter_docstrings(default_roots()[:1]) if source is None else source
    chosen: dict[str, Docstring] = {}  # by body: aliases and copies would be answers judged wrong
    for docstring in found:
        if _suits(docstring):
            chosen.setdefault(docstring.body, docstring)
    unique = {docstring.summary.casefold(): docstring for docstring in chosen.values()}
    suitable = sorted(unique.values(), key=lambda docstring: docstring.qualified_name)
    if len(suitable) < MIN_DOCUMENTS:
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


def check_size(data: EvalSet) -> EvalSet:
    """Returns the set itself.

    Raises:
        EvaluationError: It is too small for any figure drawn from it to mean something.
    """
    for count, least, what, option in (
        (len(data.documents), MIN_DOCUMENTS, "documents", "--eval-documents"),
        (len(data.queries), MIN_QUERIES, "judged queries", "--eval-queries"),
    ):
        if count < least:
            raise EvaluationError(
                f"evaluation set {data.name} has {count} {what}, wanted {least} at least: fewer cannot tell "
                f"a good model from a bad one; give more --eval-data, or raise {option} if it is set"
            )
    return data


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


def _read_judgements(path: Path, documents: Mapping[str, str]) -> dict[str, dict[str, int]]:
    """Returns query id to document id to relevance above 0, of documents in the corpus."""
    kinds = {"query_id": Column.ID, "doc_id": Column.ID, "relevance": Column.GRADE}
    qrels = read_table(path, kinds)
    grades: dict[tuple[str, str], int] = {}
    judgements: dict[str, dict[str, int]] = {}
    for query, document, relevance in zip(*(qrels[name] for name in kinds), strict=True):
        if grades.setdefault((query, document), relevance) != relevance:
            raise EvaluationError(
                f"{path} judges document {document} for query {query} as {grades[query, document]} and as "
                f"{relevance}; keep one"
            )
        if relevance > MAX_RELEVANCE:
            raise EvaluationError(
                f"{path} judges document {document} for query {query} as {relevance}, wanted {MAX_RELEVANCE} "
                "at most: a grade, not a count or a time"
            )
        if relevance > 0 and document in documents:
            judgements.setdefault(query, {})[document] = relevance
    return judgements


def _by_id(path: Path, column: str, ids: Sequence[str], texts: Sequence[str]) -> dict[str, str]:
    found = dict(zip(ids, texts, strict=True))
    if len(found) < len(ids):
        raise EvaluationError(
            f"{path} has {column} {_twice(ids)} more than once; give each of its {len(ids)} rows its own id"
        )
    return found


def _twice(names: Iterable[str]) -> str:
    return next(name for name, count in Counter(names).items() if count > 1)
