"""Between the messages of `tei.v1` and the worker's own types."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version

import grpc
import numpy as np
from numpy.typing import NDArray

from embedpool.wires import tei_pb2 as pb
from worker.errors import ModelError, PoisonError, RequestError, TokenizerError, WorkerError
from worker.models import Model
from worker.requests.batch import Batch
from worker.requests.frontend import Answer
from worker.requests.intake import THREADS, Options, check_dimensions, find_prompt
from worker.requests.queries import query_cost
from worker.settings.config import ServeConfig
from worker.tokenizer import Token
from worker.vectors import cut, unit_length
from worker.wires.status import STATUS, Table, status_of
from worker.wires.wording import Words, reworded

# What failed in computing is a state of the server's model to clients of this wire.
TABLE: Table = {
    **STATUS,
    TokenizerError: grpc.StatusCode.FAILED_PRECONDITION,
    ModelError: grpc.StatusCode.FAILED_PRECONDITION,
    PoisonError: grpc.StatusCode.FAILED_PRECONDITION,
}
_WORDS = Words(text="inputs", texts="inputs")
# Most that is told in the headers of a stream that has ended; gRPC's clients take 8 KiB of headers.
_TOLD_FAILURES = 16
_TOLD_CHARACTERS = 240

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Asked:
    """What an answer must know of its request.

    Attributes:
        characters: Code points of the text.
        normalize: Whether its vector shall have unit length.
    """

    characters: int
    normalize: bool

    @classmethod
    def of(cls, request: pb.EmbedRequest) -> "Asked":
        """Returns what is to be known of a request; vectors are normalized unless it says otherwise."""
        return cls(len(request.inputs), request.normalize if request.HasField("normalize") else True)


def read_options(request: pb.EmbedRequest, model: Model) -> Options:
    """Reads options.

    Raises:
        RequestError: An unknown direction or prompt, dimensions that are none or more than there are, or raw
            vectors of a model whose graph normalizes.
    """
    manifest = model.manifest
    if request.truncation_direction not in (pb.TRUNCATION_DIRECTION_RIGHT, pb.TRUNCATION_DIRECTION_LEFT):
        raise RequestError(
            f"truncation_direction is {request.truncation_direction}, use 0 to keep the beginning of a text "
            "or 1 to keep its end"
        )
    if request.HasField("dimensions") and not request.dimensions:
        raise RequestError("dimensions is 0, it must be 1 or more; leave it out for all")
    if manifest.normalize and not Asked.of(request).normalize:
        raise RequestError(
            "normalize is false, but the model's own graph gives its vectors unit length; leave it out"
        )
    return Options(
        dimensions=check_dimensions(manifest, request.dimensions),
        prompt=prompt_of(request, model),
        reject_long=not request.truncate,
        keep_end=request.truncation_direction == pb.TRUNCATION_DIRECTION_LEFT,
    )


def prompt_of(request: pb.EmbedRequest | pb.EncodeRequest, model: Model) -> str:
    """Returns what is put in front of a text: nothing, unless its caller asks for it.

    Raises:
        RequestError: The model has no such prompt.
    """
    return find_prompt(
        model.manifest, request.prompt_name if request.HasField("prompt_name") else None, default=""
    )


def worded(error: WorkerError) -> WorkerError:
    """Returns an error in the words of this wire."""
    return reworded(error, _WORDS)


def query_response(asked: Asked, answer: Answer, began_ns: int) -> pb.EmbedResponse:
    """Builds the answer of one text that was a query, and came in at `began_ns` of `time.perf_counter_ns`."""
    gather = answer.embeddings.gather
    return pb.EmbedResponse(
        embeddings=_vector(gather.vectors, asked, answer.options, answer.model).tolist(),
        metadata=pb.Metadata(
            compute_chars=asked.characters,
            compute_tokens=answer.embeddings.texts[0].token_count,
            total_time_ns=time.perf_counter_ns() - began_ns,
            tokenization_time_ns=answer.embeddings.tokenize_ns,
            queue_time_ns=gather.queue_ns,
            inference_time_ns=gather.run_ns,
        ),
    )


def batch_response(asked: Asked, batch: Batch) -> pb.EmbedResponse:
    """Builds the answer of one text of a stream: its vector, or why it has none."""
    gather, (text,) = batch.gather, batch.texts
    metadata = pb.Metadata(
        compute_chars=asked.characters,
        compute_tokens=text.token_count if text is not None else 0,
        total_time_ns=time.perf_counter_ns() - batch.began_ns,
        tokenization_time_ns=batch.tokenized_ns - batch.began_ns,
        queue_time_ns=gather.queue_ns,
        inference_time_ns=gather.run_ns,
    )
    if gather.errors:
        return pb.EmbedResponse(metadata=metadata, failure=failure_of(gather.errors[0]))
    vector = _vector(gather.vectors, asked, batch.options, batch.model)
    return pb.EmbedResponse(embeddings=vector.tolist(), metadata=metadata)


def encode_response(tokens: Iterator[Token]) -> pb.EncodeResponse:
    """Builds the answer of a text whose tokens are wanted."""
    response = pb.EncodeResponse()
    add = response.tokens.add
    for token in tokens:
        if token.special:
            add(id=token.id, text=token.text, special=True)
        else:
            add(id=token.id, text=token.text, start=token.start, stop=token.stop)
    return response


def failure_of(error: WorkerError) -> pb.Failure:
    """Returns why a text has no answer."""
    return pb.Failure(code=status_of(error, TABLE).value[0], message=str(worded(error)))


def headers_of(metadata: pb.Metadata) -> Headers:
    """Returns the times of an answer as headers, in whole milliseconds."""
    times = {
        "x-total-time": metadata.total_time_ns,
        "x-tokenization-time": metadata.tokenization_time_ns,
        "x-queue-time": metadata.queue_time_ns,
        "x-inference-time": metadata.inference_time_ns,
    }
    return tuple((name, str(nanoseconds // 1_000_000)) for name, nanoseconds in times.items())


class Failures:
    """The texts of a stream that failed, as they are told when it ends."""

    def __init__(self) -> None:
        self._count = 0
        self._told: list[str] = []

    def note(self, index: int, failure: pb.Failure) -> None:
        """Notes that the text of a message failed."""
        self._count += 1
        if len(self._told) < _TOLD_FAILURES:
            name = next(code.name for code in grpc.StatusCode if code.value[0] == failure.code)
            # Headers hold printable ASCII alone.
            message = failure.message.encode("ascii", "backslashreplace").decode("ascii")
            line = f"{index} {name} {message}"[:_TOLD_CHARACTERS]
            self._told.append("".join(letter if letter.isprintable() else " " for letter in line))

    def headers(self) -> Headers:
        """Returns them as trailing metadata; nothing where none failed."""
        if not self._count:
            return ()
        return (("x-failed-texts", str(self._count)), *(("x-failed-text", line) for line in self._told))


def info_response(model: Model, config: ServeConfig) -> pb.InfoResponse:
    """Builds the description of the model and the limits."""
    manifest = model.manifest
    recipe = str(manifest.recipe.get("name", ""))
    shortest = query_cost(1, 1, manifest.dim)
    return pb.InfoResponse(
        version=version("embedpool"),
        model_id=manifest.name,
        model_sha=manifest.fingerprint,
        model_dtype="float32" if recipe.startswith("fp32") else recipe,
        model_type=pb.MODEL_TYPE_EMBEDDING,
        max_concurrent_requests=max(1, config.limits.max_query_bytes_in_flight // shortest),
        max_input_length=manifest.max_tokens,
        max_batch_tokens=max(manifest.max_tokens, min(manifest.max_group_tokens, config.max_run_tokens)),
        max_client_batch_size=1,
        tokenization_workers=THREADS,
    )


def _vector(
    vectors: NDArray[np.float32], asked: Asked, options: Options, model: Model
) -> NDArray[np.float32]:
    kept = cut(vectors, options.dimensions, normalize=model.manifest.normalize)
    if asked.normalize and not model.manifest.normalize:
        kept = unit_length(kept)
    row: NDArray[np.float32] = kept[0]
    return row
