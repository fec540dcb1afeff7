"""Messages of the search service to and from the searches' own types. Pure."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from embedpool.v1 import embedding_service_pb2 as embedding_pb
from embedpool.v1 import search_service_pb2 as pb
from indexer.errors import ConfigError
from indexer.search.hits import Ask, Hit
from indexer.search.snapshot import Found, Snapshot
from indexer.search.values import as_json
from indexer.serving.config import Limits

_NS: Final = 1e9  # of a second
_DEFAULT_K: Final = 10
_INT64: Final = 1 << 63
_KINDS: Final[Mapping[int, "np.dtype[Any]"]] = {
    embedding_pb.VECTOR_TYPE_UNSPECIFIED: np.dtype("<f4"),
    embedding_pb.VECTOR_TYPE_FLOAT32: np.dtype("<f4"),
    embedding_pb.VECTOR_TYPE_FLOAT16: np.dtype("<f2"),
    embedding_pb.VECTOR_TYPE_INT8: np.dtype("i1"),
}


def ask_of(request: pb.SearchRequest, limits: Limits) -> Ask:
    """Returns what a request is to find; raises ConfigError for more than the limits."""
    k = request.k or _DEFAULT_K
    if k > limits.max_k:
        raise ConfigError(f"k is {k}, the limit max_k is {limits.max_k}")
    return Ask(k, tuple(dict.fromkeys(request.columns)), request.filter, request.passages)


def texts_of(request: pb.SearchRequest, limits: Limits) -> list[str]:
    """Returns the texts of a request, none if it has vectors; raises ConfigError for both, none, too many."""
    texts = list(request.texts)
    if bool(texts) == request.HasField("vectors"):
        came = "both came" if texts else "neither came"
        raise ConfigError(f"give either texts or vectors: {came}")
    _check_count(len(texts) or request.vectors.rows, limits)
    for position, text in enumerate(texts):
        if not text.strip():
            raise ConfigError(f"texts[{position}] is empty; give it words")
    return texts


def _check_count(queries: int, limits: Limits) -> None:
    if queries > limits.max_queries:
        raise ConfigError(
            f"the call has {queries} queries, the limit max_queries is {limits.max_queries}; send several"
        )


def vectors_of(message: embedding_pb.Vectors) -> NDArray[np.float32]:
    """Returns packed vectors as float32 `[rows, dim]`; raises ConfigError unless the bytes are theirs."""
    kind = _KINDS.get(message.type)
    if kind is None:
        raise ConfigError(f"vectors.type is {message.type}; use a VectorType")
    if not message.rows or not message.dim:
        raise ConfigError(f"vectors are {message.rows} × {message.dim} values; give at least one vector")
    wanted = message.rows * message.dim * kind.itemsize
    if len(message.data) != wanted:
        raise ConfigError(
            f"vectors.data has {len(message.data)} bytes, wanted {wanted} for {message.rows} × {message.dim} "
            f"values of {kind.itemsize} bytes"
        )
    packed: NDArray[Any] = np.frombuffer(message.data, dtype=kind).reshape(message.rows, message.dim)
    if kind.kind == "f":
        return packed.astype(np.float32)
    if len(message.scales) != 4 * message.rows:
        raise ConfigError(
            f"vectors.scales has {len(message.scales)} bytes, wanted {4 * message.rows}: a float32 for each"
        )
    scales = np.frombuffer(message.scales, dtype="<f4").astype(np.float32, copy=False)
    return packed.astype(np.float32) * scales[:, None]


def response_of(found: Found, snapshot: Snapshot, embed_seconds: float) -> pb.SearchResponse:
    """Returns the message of what was found."""
    return pb.SearchResponse(
        results=[pb.Hits(hits=[_hit(hit) for hit in hits]) for hits in found.hits],
        generation=snapshot.place.name,
        model_fingerprint=snapshot.fingerprint,
        timing=pb.SearchTiming(
            embed_ns=int(embed_seconds * _NS),
            search_ns=int(found.search_seconds * _NS),
            documents_ns=int(found.documents_seconds * _NS),
        ),
    )


def _hit(hit: Hit) -> pb.Hit:
    message = pb.Hit(doc_id=hit.doc_id, score=hit.score)
    for name, value in hit.columns.items():
        message.columns[name].CopyFrom(column_value(value))
    if hit.passage is not None:
        message.passage.start, message.passage.stop = hit.passage.start, hit.passage.stop
        message.passage.SetInParent()
    return message


def column_value(value: object) -> pb.ColumnValue:
    """Returns the message of a column's value; what has no kind of its own travels as JSON."""
    match value:
        case None:
            return pb.ColumnValue()
        case bool():
            return pb.ColumnValue(bool=value)
        case int() if -_INT64 <= value < _INT64:
            return pb.ColumnValue(int64=value)
        case float():
            return pb.ColumnValue(double=value)
        case str():
            return pb.ColumnValue(string=value)
        case bytes():
            return pb.ColumnValue(bytes=value)
        case _:
            return pb.ColumnValue(json=as_json(value))


def index_of(
    snapshot: Snapshot, columns: list[str], versions: Mapping[str, str], limits: Limits
) -> pb.GetIndexResponse:
    """Returns the message that tells which index is served."""
    meta = snapshot.place.generation.meta
    return pb.GetIndexResponse(
        documents=snapshot.documents,
        vectors=snapshot.vectors,
        dim=snapshot.dim,
        key=meta.key,
        generation=snapshot.place.name,
        model_fingerprint=snapshot.fingerprint,
        model_name=snapshot.plan.model.name,
        search_parameters=dict(meta.search),
        columns=columns,
        versions=versions,
        max_k=limits.max_k,
    )
