"""Between the messages of `embedpool.v1` and the worker's own types."""

import platform
from importlib.metadata import version

import numpy as np

from embedpool.v1 import embedding_service_pb2 as pb
from worker.errors import RequestError
from worker.models import Model
from worker.requests.batch import Batch
from worker.requests.frontend import Answer
from worker.requests.intake import Options, check_dimensions, find_prompt
from worker.settings.config import ServeConfig
from worker.vectors import Packed, VectorType, cut, pack
from worker.windows import check_chunking
from worker.wires.status import status_of

_VECTOR_TYPES = {
    pb.VECTOR_TYPE_UNSPECIFIED: VectorType.FLOAT32,
    pb.VECTOR_TYPE_FLOAT32: VectorType.FLOAT32,
    pb.VECTOR_TYPE_FLOAT16: VectorType.FLOAT16,
    pb.VECTOR_TYPE_INT8: VectorType.INT8,
}
_VECTOR_NUMBERS = {
    VectorType.FLOAT32: pb.VECTOR_TYPE_FLOAT32,
    VectorType.FLOAT16: pb.VECTOR_TYPE_FLOAT16,
    VectorType.INT8: pb.VECTOR_TYPE_INT8,
}
_REJECTS = {
    pb.TRUNCATION_UNSPECIFIED: False,
    pb.TRUNCATION_END: False,
    pb.TRUNCATION_REJECT: True,
}
_PACKAGES = ("embedpool", "grpcio", "numpy", "onnxruntime", "protobuf", "tokenizers")


def read_options(
    message: pb.EmbeddingOptions, model: Model, default_prompt: str, max_windows: int
) -> Options:
    """Reads options.

    Raises:
        RequestError: An unknown enum number or prompt, more dimensions than there are, or windows that the
            model cannot read.
    """
    if message.vector_type not in _VECTOR_TYPES:
        raise RequestError(f"options.vector_type is {message.vector_type}; use a VectorType")
    if message.truncation not in _REJECTS:
        raise RequestError(f"options.truncation is {message.truncation}; use a Truncation")
    name = message.prompt_name if message.HasField("prompt_name") else None
    chunking = None
    if message.HasField("chunking"):
        chunking = check_chunking(
            message.chunking.window_tokens,
            message.chunking.overlap_tokens,
            max_tokens=model.manifest.max_tokens,
            special_tokens=model.tokenizer.special_tokens,
            max_windows=max_windows,
            separate=message.chunking.separate,
        )
    return Options(
        vector_type=_VECTOR_TYPES[message.vector_type],
        dimensions=check_dimensions(model.manifest, message.dimensions),
        prompt=find_prompt(model.manifest, name, default_prompt),
        reject_long=_REJECTS[message.truncation],
        chunking=chunking,
        exact=message.exact,
    )


def query_response(answer: Answer) -> pb.EmbedQueryResponse:
    """Builds the answer of a query whose texts all have a vector."""
    embeddings, options, manifest = answer.embeddings, answer.options, answer.model.manifest
    gather = embeddings.gather
    vectors = cut(gather.vectors, options.dimensions, normalize=manifest.normalize)
    return pb.EmbedQueryResponse(
        vectors=_vectors(pack(vectors, options.vector_type)),
        token_counts=[text.token_count for text in embeddings.texts],
        truncated=[text.truncated for text in embeddings.texts],
        windows=[len(text.ids) for text in embeddings.texts],
        model_fingerprint=manifest.fingerprint,
        timing=pb.Timing(queue_ns=gather.queue_ns, tokenize_ns=embeddings.tokenize_ns, run_ns=gather.run_ns),
    )


def documents_response(batch: Batch) -> pb.EmbedDocumentsResponse:
    """Builds the answer of a batch: a status for each text, a vector or several for each that is OK."""
    gather, manifest = batch.gather, batch.model.manifest
    vectors = gather.vectors
    if gather.windows:
        good = (row for row in range(batch.size) if row not in gather.errors)
        vectors = np.concatenate([gather.rows_of(row) for row in good])
    elif gather.errors:
        vectors = np.delete(vectors, list(gather.errors), axis=0)
    vectors = cut(vectors, batch.options.dimensions, normalize=manifest.normalize)
    response = pb.EmbedDocumentsResponse(
        batch_id=batch.batch_id,
        vectors=_vectors(pack(vectors, batch.options.vector_type)),
        model_fingerprint=manifest.fingerprint,
    )
    add = response.items.add
    for row, text in enumerate(batch.texts):
        facts = {} if text is None else text._asdict()
        if (error := gather.errors.get(row)) is None:
            add(**facts)
        else:
            code = status_of(error).value[0]
            facts = {name: value for name, value in facts.items() if not name.startswith("window_")}
            add(code=code, message=str(error), **facts)
    return response


def model_response(model: Model, config: ServeConfig) -> pb.GetModelResponse:
    """Builds the description of the model and the limits."""
    manifest, limits = model.manifest, config.limits
    return pb.GetModelResponse(
        fingerprint=manifest.fingerprint,
        name=manifest.name,
        dim=manifest.dim,
        max_tokens=manifest.max_tokens,
        limits=pb.Limits(
            max_text_bytes=limits.max_text_bytes,
            max_query_texts=limits.max_query_texts,
            max_batch_items=limits.max_batch_items,
            max_batch_bytes=limits.max_batch_bytes,
            max_stream_bytes_in_flight=limits.max_stream_bytes_in_flight,
            max_query_bytes_in_flight=limits.max_query_bytes_in_flight,
            max_windows=config.max_windows,
        ),
        prompts=manifest.prompts,
        query_prompt=find_prompt(manifest, None, manifest.query_prompt),
        document_prompt=find_prompt(manifest, None, manifest.document_prompt),
        pooling=manifest.pooling.value,
        normalized=manifest.normalize,
        recipe=str(manifest.recipe.get("name", "")),
        versions={package: version(package) for package in _PACKAGES} | {"python": platform.python_version()},
        processes=config.processes,
        generation=model.generation,
    )


def _vectors(packed: Packed) -> pb.Vectors:
    return pb.Vectors(
        data=packed.data,
        scales=packed.scales,
        type=_VECTOR_NUMBERS[packed.type],
        dim=packed.dim,
        rows=packed.rows,
    )
