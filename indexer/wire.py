"""Messages of the wire to and from the indexer's own types. Only this file and `client` import protobuf."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from google.rpc import code_pb2
from numpy.typing import NDArray

from embedpool.v1 import embedding_service_pb2 as pb
from indexer.config import VectorType
from indexer.documents import Batch
from indexer.errors import PoolError
from indexer.plan import Model
from indexer.unit import Answer

# Codes of one text that waiting may mend. INTERNAL is final: that text ended two processes.
_POSTPONED = frozenset(
    {
        code_pb2.UNAVAILABLE,
        code_pb2.RESOURCE_EXHAUSTED,
        code_pb2.CANCELLED,
        code_pb2.ABORTED,
        code_pb2.DEADLINE_EXCEEDED,
    }
)
_NO_LIMIT: Final = sys.maxsize  # for a limit that a pool does not tell
_WIRE_TYPES: Final = {
    VectorType.FLOAT32: pb.VECTOR_TYPE_FLOAT32,
    VectorType.FLOAT16: pb.VECTOR_TYPE_FLOAT16,
}
_LITTLE_ENDIAN: Final[Mapping[int, "np.dtype[Any]"]] = {
    pb.VECTOR_TYPE_FLOAT32: np.dtype("<f4"),
    pb.VECTOR_TYPE_FLOAT16: np.dtype("<f2"),
}


@dataclass(frozen=True)
class Pool:
    """A pool as it described itself.

    Attributes:
        model: The model that it serves.
        processes: Compute processes.
        max_text_bytes: Bytes of one text.
        max_query_texts: Texts of one query call.
        max_batch_items: Texts of one batch.
        max_batch_bytes: Bytes of one batch.
        max_stream_bytes: Bytes in flight on one stream.
    """

    model: Model
    processes: int
    max_text_bytes: int
    max_query_texts: int
    max_batch_items: int
    max_batch_bytes: int
    max_stream_bytes: int


def batch_request(batch: Batch, vector_type: VectorType) -> pb.EmbedDocumentsRequest:
    """Returns the message that carries a batch."""
    options = pb.EmbeddingOptions(vector_type=_WIRE_TYPES[vector_type])
    return pb.EmbedDocumentsRequest(batch_id=batch.number, texts=batch.texts, options=options)


def pool_of(response: pb.GetModelResponse) -> Pool:
    """Returns what a pool says of itself."""
    limits = response.limits
    return Pool(
        model=Model(response.fingerprint, response.name, response.dim, response.normalized),
        processes=response.processes,
        max_text_bytes=limits.max_text_bytes or _NO_LIMIT,
        max_query_texts=limits.max_query_texts or _NO_LIMIT,
        max_batch_items=limits.max_batch_items or _NO_LIMIT,
        max_batch_bytes=limits.max_batch_bytes or _NO_LIMIT,
        max_stream_bytes=limits.max_stream_bytes_in_flight or _NO_LIMIT,
    )


def answer_of(target: str, response: pb.EmbedDocumentsResponse) -> Answer:
    """Returns an answer whose parts agree with each other; raises PoolError when they do not."""
    failures, good, token_counts, truncated, postponed = [], [], [], [], ""
    for position, item in enumerate(response.items):
        if item.code == 0:
            good.append(position)
            token_counts.append(item.token_count)
            truncated.append(item.truncated)
        else:
            reason = f"{_code_name(item.code)}: {item.message}"
            failures.append((position, reason))
            postponed = reason if item.code in _POSTPONED else postponed
    vectors = matrix(response.vectors) if good else np.empty((0, response.vectors.dim), dtype=np.float32)
    if len(vectors) != len(good):
        raise PoolError(
            f"worker {target} gave {len(vectors)} vectors for {len(good)} texts that it called OK"
        )
    return Answer(
        number=response.batch_id,
        fingerprint=response.model_fingerprint,
        good=np.asarray(good, dtype=np.int64),
        vectors=vectors,
        token_counts=np.asarray(token_counts, dtype=np.int32),
        truncated=np.asarray(truncated, dtype=np.bool_),
        failures=tuple(failures),
        postponed=postponed,
    )


def _code_name(code: int) -> str:
    return str(code_pb2.Code.Name(code)) if code in code_pb2.Code.values() else f"code {code}"


def matrix(vectors: pb.Vectors) -> NDArray[np.floating]:
    """Returns packed vectors as `[rows, dim]`, sharing their bytes; raises PoolError for a wrong size."""
    kind = _LITTLE_ENDIAN.get(vectors.type)
    size = vectors.rows * vectors.dim
    if kind is None or len(vectors.data) != size * kind.itemsize:
        raise PoolError(
            f"the worker sent {len(vectors.data)} bytes for {vectors.rows} × {vectors.dim} values of type "
            f"{vectors.type}; use a worker of this release"
        )
    packed: NDArray[np.floating] = np.frombuffer(vectors.data, dtype=kind).reshape(vectors.rows, vectors.dim)
    return packed
