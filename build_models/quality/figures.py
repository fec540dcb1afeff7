"""What is measured of a candidate, as plain figures; nothing here measures."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

GATE_MEASURE = "nDCG@10"


class Mixed(StrEnum):
    """Which half of a search comes from the FP32 model; the candidate gives the other half."""

    FP32_DOCUMENTS = "fp32-documents"
    FP32_QUERIES = "fp32-queries"


@dataclass(frozen=True)
class Cosines:
    """Cosines between two models' vectors of the same texts: mean, 1st percentile, least."""

    mean: float
    p1: float
    min: float


@dataclass(frozen=True)
class MixedQuality:
    """A search in which one model made the index and the other asks.

    Attributes:
        half: Which half is FP32's.
        ndcg: nDCG@10 of that search.
        retention: `ndcg` over that of FP32 alone.
        overlap: Mean share of the ten best that FP32 alone ranks as high.
    """

    half: Mixed
    ndcg: float
    retention: float
    overlap: float


@dataclass(frozen=True)
class Bucket:
    """The part of a set whose texts have so many tokens, special ones and prompt included, cut as served.

    Attributes:
        first: Least tokens of a text in the bucket.
        last: Most tokens; None for no limit.
        queries: Count of judged queries of that length.
        retention: Their nDCG@10, candidate over FP32; None where FP32 finds nothing, or there are none.
        overlap: Their overlap@10; None where there are none.
        query_cosines: Of their vectors; None where there are none.
        documents: Count of documents of that length.
        document_cosines: Of their vectors; None where there are none.
    """

    first: int
    last: int | None
    queries: int
    retention: float | None
    overlap: float | None
    query_cosines: Cosines | None
    documents: int
    document_cosines: Cosines | None


@dataclass(frozen=True)
class SetQuality:
    """A candidate beside the FP32 model on one set.

    Attributes:
        name: Name of the set.
        documents: Count of documents.
        queries: Count of judged queries.
        reference: Measure to the FP32 model's value.
        candidate: Measure to the candidate's value.
        retention: Candidate's nDCG@10 over the FP32 model's.
        bound: Lower 95 % bound of `retention`, one-sided, over samples of queries; see `bootstrap`.
        overlap: Mean share of the candidate's ten best that are among the FP32 model's ten best.
        mixed: One model's documents searched with the other's queries, one for each `Mixed`.
        document_cosines: Of the documents' vectors.
        query_cosines: Of the queries' vectors.
        buckets: The same by length, from short to long; those without any text are left out.
    """

    name: str
    documents: int
    queries: int
    reference: Mapping[str, float]
    candidate: Mapping[str, float]
    retention: float
    bound: float
    overlap: float
    mixed: tuple[MixedQuality, ...]
    document_cosines: Cosines
    query_cosines: Cosines
    buckets: tuple[Bucket, ...]


@dataclass(frozen=True)
class Invariance:
    """Whether a text's vector depends on anything but the text, measured on runs of one.

    Attributes:
        texts: Count of texts that were embedded again, of every length.
        changed: Those whose vector had other bytes in another process, in another order.
        cosine: Least cosine between the two vectors of a text.
    """

    texts: int
    changed: int
    cosine: float
