"""Messages of the wire to and from the client's own types. Only this file and `channel` import protobuf."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from google.rpc import code_pb2
from numpy.typing import NDArray

from embedpool.v1 import admin_service_pb2 as admin_pb
from embedpool.v1 import embedding_service_pb2 as pb
from indexer.client.answers import NO_LIMIT, Answer, Embeddings, Failure, Pool, Spans, Timing
from indexer.client.settings import Options, VectorType
from indexer.client.statistics import ClassStatistics, Distribution, ProcessStatistics, Statistics
from indexer.client.status import CALL, Status
from indexer.errors import PoolError
from indexer.plan import Model

_NS = 1e-9  # seconds
_WIRE_TYPES: Final = {
    VectorType.FLOAT32: pb.VECTOR_TYPE_FLOAT32,
    VectorType.FLOAT16: pb.VECTOR_TYPE_FLOAT16,
    VectorType.INT8: pb.VECTOR_TYPE_INT8,
}
_LITTLE_ENDIAN: Final[Mapping[int, "np.dtype[Any]"]] = {
    pb.VECTOR_TYPE_FLOAT32: np.dtype("<f4"),
    pb.VECTOR_TYPE_FLOAT16: np.dtype("<f2"),
    pb.VECTOR_TYPE_INT8: np.dtype("i1"),
}


def options_message(options: Options) -> pb.EmbeddingOptions:
    """Returns the message that carries options."""
    message = pb.EmbeddingOptions(
        vector_type=_WIRE_TYPES[options.vector_type],
        dimensions=options.dimensions,
        prompt_name=options.prompt_name,
        truncation=pb.TRUNCATION_REJECT if options.reject_long else pb.TRUNCATION_UNSPECIFIED,
        exact=options.exact,
    )
    if options.chunking is not None:
        message.chunking.window_tokens = options.chunking.window_tokens
        message.chunking.overlap_tokens = options.chunking.overlap_tokens
        message.chunking.separate = options.separate
        message.chunking.SetInParent()
    return message


def query_request(texts: Sequence[str], options: Options) -> pb.EmbedQueryRequest:
    """Returns the message that asks for the vectors of queries."""
    return pb.EmbedQueryRequest(texts=texts, options=options_message(options))


def batch_request(
    number: int, texts: Sequence[bytes], options: pb.EmbeddingOptions | None
) -> pb.EmbedDocumentsRequest:
    """Returns the message that carries a batch; a stream reads options from its first one."""
    return pb.EmbedDocumentsRequest(batch_id=number, texts=texts, options=options)


def pool_of(response: pb.GetModelResponse) -> Pool:
    """Returns what a pool says of itself."""
    limits = response.limits
    return Pool(
        model=Model(response.fingerprint, response.name, response.dim, response.normalized),
        processes=response.processes,
        max_text_bytes=limits.max_text_bytes or NO_LIMIT,
        max_query_texts=limits.max_query_texts or NO_LIMIT,
        max_batch_items=limits.max_batch_items or NO_LIMIT,
        max_batch_bytes=limits.max_batch_bytes or NO_LIMIT,
        max_stream_bytes=limits.max_stream_bytes_in_flight or NO_LIMIT,
        max_tokens=response.max_tokens or NO_LIMIT,
        max_windows=limits.max_windows or NO_LIMIT,
        prompts=dict(response.prompts),
        query_prompt=response.query_prompt,
        document_prompt=response.document_prompt,
        pooling=response.pooling,
        recipe=response.recipe,
        generation=response.generation or 1,
        versions=dict(response.versions),
    )


def embeddings_of(target: str, texts: int, response: pb.EmbedQueryResponse, request_id: str) -> Embeddings:
    """Returns the answer of a query of so many texts; raises PoolError when it does not fit."""
    vectors = matrix(response.vectors).astype(np.float32, copy=False)
    if not len(vectors) == len(response.token_counts) == len(response.truncated) == texts:
        raise PoolError(
            f"worker {target} gave {len(vectors)} vectors, {len(response.token_counts)} token counts and "
            f"{len(response.truncated)} marks for {texts} queries; use a worker of this release"
        )
    timing = response.timing
    return Embeddings(
        vectors=vectors,
        token_counts=np.asarray(response.token_counts, dtype=np.int32),
        truncated=np.asarray(response.truncated, dtype=np.bool_),
        windows=np.asarray(response.windows or [1] * texts, dtype=np.int32),
        fingerprint=response.model_fingerprint,
        timing=Timing(timing.queue_ns * _NS, timing.tokenize_ns * _NS, timing.run_ns * _NS),
        target=target,
        request_id=request_id,
    )


def answer_of(target: str, response: pb.EmbedDocumentsResponse, *, separate: bool = False) -> Answer:
    """Returns an answer whose parts agree with each other; raises PoolError when they do not.

    Args:
        target: Address of the pool, for messages.
        response: What it sent.
        separate: Whether each window has a vector of its own.
    """
    failures, good, postponed = [], [], ""
    for position, item in enumerate(response.items):
        if item.code == 0:
            good.append(position)
        else:
            failure = Failure(position, _status(item.code), item.message)
            failures.append(failure)
            postponed = str(failure) if failure.code in CALL else postponed
    vectors = matrix(response.vectors) if good else np.empty((0, response.vectors.dim), dtype=np.float32)
    items = [response.items[position] for position in good]
    spans = _spans_of(target, items) if separate else None
    wanted = len(good) if spans is None else len(spans.starts)
    if len(vectors) != wanted:
        raise PoolError(
            f"worker {target} gave {len(vectors)} vectors for {wanted} texts or windows that it called OK"
        )
    return Answer(
        number=response.batch_id,
        fingerprint=response.model_fingerprint,
        good=np.asarray(good, dtype=np.int64),
        vectors=vectors,
        token_counts=np.asarray([item.token_count for item in items], dtype=np.int32),
        truncated=np.asarray([item.truncated for item in items], dtype=np.bool_),
        windows=np.asarray([item.windows or 1 for item in items], dtype=np.int32),
        failures=tuple(failures),
        postponed=postponed,
        spans=spans,
    )


def _spans_of(target: str, items: Sequence[pb.DocumentStatus]) -> Spans:
    """Returns where the windows of some texts lie; raises PoolError for a pool that does not tell."""
    for item in items:
        parts = (item.window_starts, item.window_stops, item.window_token_counts)
        if not item.windows or any(len(part) != item.windows for part in parts):
            raise PoolError(
                f"worker {target} does not give each chunk of a text a vector of its own (it made "
                f"{item.windows} windows and told the places of {len(item.window_starts)}); start a worker "
                "of this release, or index without --chunk-tokens"
            )
    return Spans(
        *(
            np.asarray([value for item in items for value in getattr(item, name)], dtype=np.int32)
            for name in ("window_starts", "window_stops", "window_token_counts")
        )
    )


def _status(code: int) -> Status:
    known = code in code_pb2.Code.values()
    return Status(code_pb2.Code.Name(code)) if known else Status.UNKNOWN


def matrix(vectors: pb.Vectors) -> NDArray[np.floating]:
    """Returns packed vectors as `[rows, dim]` in their own type, INT8 as float32: value = scale × int8.

    Raises:
        PoolError: The bytes are not those of so many values.
    """
    kind = _LITTLE_ENDIAN.get(vectors.type)
    size = vectors.rows * vectors.dim
    if kind is None or len(vectors.data) != size * kind.itemsize:
        raise PoolError(
            f"the worker sent {len(vectors.data)} bytes for {vectors.rows} × {vectors.dim} values of type "
            f"{vectors.type}; use a worker of this release"
        )
    packed: NDArray[Any] = np.frombuffer(vectors.data, dtype=kind).reshape(vectors.rows, vectors.dim)
    if vectors.type != pb.VECTOR_TYPE_INT8:
        return packed
    if len(vectors.scales) != 4 * vectors.rows:
        raise PoolError(
            f"the worker sent {len(vectors.scales)} bytes of scales for {vectors.rows} rows of int8 values, "
            f"wanted {4 * vectors.rows}; use a worker of this release"
        )
    scales = np.frombuffer(vectors.scales, dtype="<f4").astype(np.float32, copy=False)
    return packed.astype(np.float32) * scales[:, None]


def statistics_of(response: admin_pb.GetStatisticsResponse) -> Statistics:
    """Returns what a pool counted."""
    return Statistics(
        uptime_seconds=response.uptime_seconds,
        fingerprint=response.model_fingerprint,
        generation=response.generation,
        queries=_class_of(response.queries),
        documents=_class_of(response.documents),
        processes=tuple(
            ProcessStatistics(
                slot=one.slot,
                pid=one.pid,
                state=one.state,
                resident_bytes=one.resident_bytes,
                proportional_bytes=one.proportional_bytes,
                runs=one.runs,
                restarts=one.restarts,
            )
            for one in response.processes
        ),
        process_ends=dict(response.process_ends),
        reloads=response.reloads,
        open_streams=response.open_streams,
        query_bytes_in_flight=response.query_bytes_in_flight,
        document_bytes_in_flight=response.document_bytes_in_flight,
    )


def _class_of(message: admin_pb.ClassStatistics) -> ClassStatistics:
    return ClassStatistics(
        texts=dict(message.texts),
        tokens=message.tokens,
        padded_tokens=message.padded_tokens,
        runs=message.runs,
        truncated=message.truncated,
        waiting=message.waiting,
        queue_seconds=_distribution_of(message.queue_seconds),
        run_seconds=_distribution_of(message.run_seconds),
    )


def _distribution_of(message: admin_pb.Distribution) -> Distribution:
    return Distribution(message.count, message.sum, tuple(message.bounds), tuple(message.counts))
