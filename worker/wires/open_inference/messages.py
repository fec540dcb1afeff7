"""Between the messages of `inference` and the worker's own types."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedpool.wires import open_inference_pb2 as pb
from worker.errors import RequestError
from worker.models import Model
from worker.settings.config import Limits
from worker.wires.open_inference.parameters import Value, read_parameters
from worker.wires.open_inference.served import names_of, version_of
from worker.wires.open_inference.tensors import count_of, decode_raw
from worker.wires.wanted import Wanted

_TEXT = "text"
_BYTES = "BYTES"
_EMBEDDINGS = "embeddings"
_TOKEN_COUNT = "token_count"  # noqa: S105  no password
_DATATYPES = {_EMBEDDINGS: "FP32", _TOKEN_COUNT: "INT32"}
_OUTPUTS = tuple(_DATATYPES)
# Triton's word for what computes here.
_PLATFORM = "onnxruntime_onnx"


@dataclass(frozen=True)
class Inference:
    """A request that can be embedded.

    Attributes:
        texts: One at least.
        wanted: How they are to be embedded.
        outputs: Names of what is to be returned.
        raw: Whether values travel as raw bytes.
    """

    texts: Sequence[bytes]
    wanted: Wanted
    outputs: Sequence[str]
    raw: bool


@dataclass(frozen=True)
class Inferred:
    """Vectors float32 `[n, dim]`, tokens of each text, how many were cut, the model that computed them."""

    vectors: NDArray[np.float32]
    token_counts: Sequence[int]
    truncated: int
    model: Model


def read_request(request: pb.ModelInferRequest, limits: Limits) -> Inference:
    """Reads a request.

    Raises:
        RequestError: A tensor is malformed or not the model's, or a parameter is not known.
    """
    wanted = read_parameters(_values(request.parameters))
    outputs = _outputs(request.outputs)
    if len(request.inputs) != 1 or request.inputs[0].name != _TEXT:
        names = ", ".join(repr(tensor.name[:80]) for tensor in request.inputs[:8]) or "none"
        raise RequestError(f"the inputs are {names}; send one, named {_TEXT}")
    (tensor,) = request.inputs
    if tensor.datatype != _BYTES:
        raise RequestError(f"input {_TEXT} has the datatype {tensor.datatype[:80]!r}, it must be {_BYTES}")
    if tensor.parameters:
        name = min(tensor.parameters)[:80]
        raise RequestError(f"input {_TEXT} has the parameter {name!r}; it takes none, nor shared memory")
    count = count_of(tensor.shape, limits.max_batch_items)
    raw = bool(request.raw_input_contents)
    texts = _raw(request, tensor, count) if raw else _typed(tensor, count)
    return Inference(texts, wanted, outputs, raw)


def response(request: pb.ModelInferRequest, inference: Inference, found: Inferred) -> pb.ModelInferResponse:
    """Builds the answer, with values as they were sent: raw for raw, typed for typed."""
    manifest = found.model.manifest
    answer = pb.ModelInferResponse(
        model_name=request.model_name or manifest.name, model_version=version_of(manifest), id=request.id
    )
    answer.parameters["model_fingerprint"].string_param = manifest.fingerprint
    answer.parameters["truncated_texts"].int64_param = found.truncated
    for name in inference.outputs:
        is_vectors = name == _EMBEDDINGS
        values: NDArray[Any] = (
            np.ascontiguousarray(found.vectors, dtype="<f4")
            if is_vectors
            else np.asarray(found.token_counts, dtype="<i4")
        )
        tensor = answer.outputs.add(name=name, datatype=_DATATYPES[name], shape=values.shape)
        if inference.raw:
            answer.raw_output_contents.append(values.tobytes())
        elif is_vectors:
            tensor.contents.fp32_contents.extend(values.ravel().tolist())
        else:
            tensor.contents.int_contents.extend(values.tolist())
    return answer


def server_metadata() -> pb.ServerMetadataResponse:
    """Builds the description of the server."""
    return pb.ServerMetadataResponse(name="embedpool", version=version("embedpool"))


def model_metadata(model: Model, served_names: Sequence[str]) -> pb.ModelMetadataResponse:
    """Builds the description of the model; -1 is the size of what varies."""
    manifest, tensor = model.manifest, pb.ModelMetadataResponse.TensorMetadata
    return pb.ModelMetadataResponse(
        name=names_of(manifest, served_names)[0],
        versions=[version_of(manifest)],
        platform=_PLATFORM,
        inputs=[tensor(name=_TEXT, datatype=_BYTES, shape=[-1, 1])],
        outputs=[
            tensor(name=_EMBEDDINGS, datatype=_DATATYPES[_EMBEDDINGS], shape=[-1, manifest.dim]),
            tensor(name=_TOKEN_COUNT, datatype=_DATATYPES[_TOKEN_COUNT], shape=[-1]),
        ],
    )


def _values(parameters: Mapping[str, pb.InferParameter]) -> Mapping[str, Value]:
    chosen = {name: (one, one.WhichOneof("parameter_choice")) for name, one in parameters.items()}
    return {name: getattr(one, kind) if kind else None for name, (one, kind) in chosen.items()}


def _outputs(requested: Sequence[pb.ModelInferRequest.InferRequestedOutputTensor]) -> Sequence[str]:
    names = [output.name for output in requested]
    for output in requested:
        if output.name not in _OUTPUTS:
            raise RequestError(
                f"the output {output.name[:80]!r} is not known; the model has {' and '.join(_OUTPUTS)}"
            )
        if output.parameters:
            name = min(output.parameters)[:80]
            raise RequestError(
                f"output {output.name} has the parameter {name!r}; it takes none, nor shared memory"
            )
    if len(set(names)) < len(names):
        raise RequestError("an output is asked for twice; name each once")
    return names or _OUTPUTS


def _raw(
    request: pb.ModelInferRequest, tensor: pb.ModelInferRequest.InferInputTensor, count: int
) -> Sequence[bytes]:
    if tensor.HasField("contents") and tensor.contents.ByteSize():
        raise RequestError(
            f"input {_TEXT} has contents, and raw_input_contents are there too; send one of the two"
        )
    if len(request.raw_input_contents) != 1:
        raise RequestError(
            f"raw_input_contents has {len(request.raw_input_contents)} entries, wanted one for the one input"
        )
    return decode_raw(request.raw_input_contents[0], count)


def _typed(tensor: pb.ModelInferRequest.InferInputTensor, count: int) -> Sequence[bytes]:
    others = [field.name for field, _ in tensor.contents.ListFields() if field.name != "bytes_contents"]
    if others:
        raise RequestError(f"input {_TEXT} has {others[0]}; texts are bytes_contents, or raw_input_contents")
    texts = tensor.contents.bytes_contents
    if len(texts) != count:
        raise RequestError(f"bytes_contents has {len(texts)} elements, the shape promises {count}")
    return list(texts)
