"""The Open Inference Protocol: its requests get the vectors of the native wire, or a reason why not."""

import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray

from embedpool.v1 import embedding_service_pb2 as pb
from embedpool.v1 import embedding_service_pb2_grpc
from embedpool.wires import open_inference_pb2 as oip
from embedpool.wires import open_inference_pb2_grpc
from tests.integration.held import counts_of
from worker.bundle import read_bundle

SECONDS = 60.0
INVALID = grpc.StatusCode.INVALID_ARGUMENT
TEXTS = ["a red house", "Ünïcode ﬁrst — 北京", "the list of names that it returns is long " * 60 + "rain"]
Values = dict[str, Any]


def encode(elements: Sequence[bytes]) -> bytes:
    """Writes a raw BYTES tensor."""
    return b"".join(struct.pack("<I", len(element)) + element for element in elements)


def infer(elements: Sequence[bytes], *, raw: bool = True, **values: Any) -> oip.ModelInferRequest:
    """Makes a request; `parameters` are plain values."""
    kinds = {str: "string_param", int: "int64_param", bool: "bool_param"}
    parameters = {
        name: oip.InferParameter(**{kinds[type(value)]: value})
        for name, value in values.pop("parameters", {}).items()
    }
    tensor: Values = {"name": "text", "datatype": "BYTES", "shape": [len(elements), 1]}
    if raw:
        values.setdefault("raw_input_contents", [encode(elements)])
    else:
        tensor["contents"] = {"bytes_contents": elements}
    values.setdefault("inputs", [tensor])
    return oip.ModelInferRequest(parameters=parameters, **values)


def values_of(answer: oip.ModelInferResponse) -> dict[str, NDArray[Any]]:
    """Returns the outputs of an answer by name, however they travelled."""
    found: dict[str, NDArray[Any]] = {}
    for place, output in enumerate(answer.outputs):
        kind, typed = {
            "FP32": ("<f4", output.contents.fp32_contents),
            "INT32": ("<i4", output.contents.int_contents),
        }[output.datatype]
        if answer.raw_output_contents:
            assert not output.contents.ByteSize()
            flat = np.frombuffer(answer.raw_output_contents[place], kind)
        else:
            flat = np.array(typed, kind)
        found[output.name] = flat.reshape(output.shape)
    return found


class Client:
    """Stubs of both wires of one server."""

    def __init__(self, server: Any, channel: grpc.Channel) -> None:
        self.server = server
        self.stub = open_inference_pb2_grpc.GRPCInferenceServiceStub(channel)
        self.native = embedding_service_pb2_grpc.EmbeddingServiceStub(channel)

    def infer(self, *arguments: Any, **values: Any) -> oip.ModelInferResponse:
        """Calls ModelInfer with what `infer` makes."""
        answer: oip.ModelInferResponse = self.stub.ModelInfer(infer(*arguments, **values), timeout=SECONDS)
        return answer

    def native_vectors(self, texts: Sequence[str], **options: Any) -> NDArray[np.float32]:
        """Returns the vectors of the native wire, without a prompt unless one is named."""
        wanted = pb.EmbeddingOptions(**{"prompt_name": "", **options})
        answer = self.native.EmbedQuery(pb.EmbedQueryRequest(texts=texts, options=wanted), timeout=SECONDS)
        return np.frombuffer(answer.vectors.data, "<f4").reshape(len(texts), -1)


def _client(start: Callable[..., Any], bundle: Path, *arguments: str) -> Iterator[Client]:
    server = start(bundle, "--processes", "1", *arguments)
    children = server.child_pids()
    with grpc.insecure_channel(server.address) as channel:
        yield Client(server, channel)
    assert server.child_pids() == children
    assert "Traceback" not in server.log.read_text()


@pytest.fixture(scope="module")
def client(start_shared_worker: Callable[..., Any], tiny_bundle: Path) -> Iterator[Client]:
    """A client of a small model."""
    limits = ("--max-batch-items", "40", "--max-text-bytes", "5000")
    yield from _client(start_shared_worker, tiny_bundle, *limits, "--http-served-names", "mine")


@pytest.fixture(scope="module")
def trap(start_shared_worker: Callable[..., Any], trap_bundle: Path) -> Iterator[Client]:
    """A client of a model that can fail and has a prompt for queries."""
    yield from _client(start_shared_worker, trap_bundle)


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("shape", [[3, 1], [3]])
def test_vectors_are_those_of_the_native_wire(client: Client, raw: bool, shape: list[int]) -> None:
    """Texts sent raw or typed come back as they were sent, bit-equal to native ones, with their tokens."""
    request = infer([text.encode() for text in TEXTS], raw=raw, id="this one")
    del request.inputs[0].shape[:]
    request.inputs[0].shape.extend(shape)
    answer = client.stub.ModelInfer(request, timeout=SECONDS)
    found = values_of(answer)
    assert bool(answer.raw_output_contents) is raw
    assert np.array_equal(found["embeddings"], client.native_vectors(TEXTS))
    native = client.native.EmbedQuery(pb.EmbedQueryRequest(texts=TEXTS), timeout=SECONDS)
    assert found["token_count"].tolist() == list(native.token_counts)
    assert answer.id == "this one"
    assert answer.model_name
    assert native.model_fingerprint.startswith(answer.model_version)
    assert answer.parameters["model_fingerprint"].string_param == native.model_fingerprint
    assert answer.parameters["truncated_texts"].int64_param == 1


def test_parameters_are_kept(client: Client) -> None:
    """Dimensions are cut as natively; START keeps the end of a text; NONE refuses what is too long."""
    elements = [text.encode() for text in TEXTS]
    part = values_of(client.infer(elements, parameters={"dimensions": 8}))["embeddings"]
    assert np.array_equal(part, client.native_vectors(TEXTS, dimensions=8))
    long = [TEXTS[2].encode()]
    end = values_of(client.infer(long, parameters={"truncate": "START"}))["embeddings"]
    assert not np.array_equal(end, client.native_vectors([TEXTS[2]]))
    with pytest.raises(grpc.RpcError, match=r"text\[2\]: the text has more than 128 tokens") as caught:
        client.infer(elements, parameters={"truncate": "NONE"})
    assert caught.value.code() is INVALID


def test_class_and_prompt(trap: Client) -> None:
    """input_type picks the class and the prompt; without it nothing is added, and one text is a query."""
    cases: list[tuple[list[str], Values, str, int]] = [
        (["w7"], {}, "", 1),
        (["w7", "w8"], {}, "", 0),
        (["w7", "w8"], {"input_type": "query"}, "question", 2),
        (["w7"], {"input_type": "passage"}, "", 0),
        (["w7"], {"input_type": "document", "prompt_name": "question"}, "question", 0),
        (["w7"], {"prompt_name": "question"}, "question", 1),
    ]
    for texts, parameters, prompt, queries in cases:
        with counts_of(trap.server) as counts:
            before = counts.now()
            answer = trap.infer([text.encode() for text in texts], parameters=parameters)
            after = counts.now()
        assert after.queries.texts["ok"] - before.queries.texts["ok"] == queries
        assert after.documents.texts["ok"] - before.documents.texts["ok"] == len(texts) - queries
        expected = trap.native_vectors(texts, prompt_name=prompt)
        assert np.array_equal(values_of(answer)["embeddings"], expected)


@pytest.mark.parametrize("names", [["embeddings"], ["token_count"], ["token_count", "embeddings"]])
@pytest.mark.parametrize("raw", [True, False])
def test_outputs_that_were_asked_for(client: Client, names: list[str], raw: bool) -> None:
    """Only the named outputs come, in the order of their names."""
    answer = client.infer([b"rain"], raw=raw, outputs=[{"name": name} for name in names])
    assert [output.name for output in answer.outputs] == names
    assert len(answer.raw_output_contents) == (len(names) if raw else 0)
    assert list(values_of(answer)) == names


def tensor(**values: Any) -> list[Values]:
    """Makes the inputs of a request."""
    return [{"name": "text", "datatype": "BYTES", "shape": [1, 1], **values}]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"inputs": []}, "the inputs are none; send one, named text"),
        ({"inputs": tensor(name="TEXT")}, "the inputs are 'TEXT'; send one, named text"),
        ({"inputs": tensor() * 2}, "the inputs are 'text', 'text'"),
        ({"inputs": tensor(datatype="FP32")}, "datatype 'FP32', it must be BYTES"),
        ({"inputs": tensor(shape=[])}, r"the shape \[\], it must be \[n, 1\] or \[n\]"),
        ({"inputs": tensor(shape=[1, 2])}, r"the shape \[1, 2\]"),
        ({"inputs": tensor(shape=[1, 1, 1])}, r"the shape \[1, 1, 1\]"),
        ({"inputs": tensor(shape=[0, 1])}, "0 elements, send one text at least"),
        ({"inputs": tensor(shape=[-1, 1])}, "-1 elements"),
        ({"inputs": tensor(shape=[2**62])}, "elements, the limit max_batch_items is 40"),
        ({"inputs": tensor(shape=[2, 1])}, "they end before the length of element 1"),
        (
            {"inputs": tensor(contents={"bytes_contents": [b"a"]})},
            "contents, and raw_input_contents are there",
        ),
        ({"inputs": tensor(parameters={"shared_memory_region": {}})}, "takes none, nor shared memory"),
        ({"raw_input_contents": [b"\x05\0\0\0ab"]}, "element 0 is said to have 5 bytes, 2 are left"),
        ({"raw_input_contents": [b"\xff\xff\xff\xff"]}, "said to have 4294967295 bytes"),
        ({"raw_input_contents": [encode([b"a", b"b"])]}, "5 bytes behind the 1 elements"),
        ({"raw_input_contents": [encode([b"a"])] * 2}, "raw_input_contents has 2 entries"),
        (
            {"raw_input_contents": [], "inputs": tensor()},
            "bytes_contents has 0 elements, the shape promises 1",
        ),
        (
            {"raw_input_contents": [], "inputs": tensor(contents={"fp32_contents": [1.0]})},
            "has fp32_contents; texts are bytes_contents",
        ),
        (
            {"outputs": [{"name": "logits"}]},
            "'logits' is not known; the model has embeddings and token_count",
        ),
        ({"outputs": [{"name": "embeddings"}] * 2}, "asked for twice"),
        ({"outputs": [{"name": "embeddings", "parameters": {"classification": {}}}]}, "'classification'"),
        ({"parameters": {"dimension": 8}}, "did you mean dimensions"),
        ({"parameters": {"dimensions": 33}}, "parameter dimensions is 33, the model's vectors have 32"),
        (
            {"parameters": {"prompt_name": "no"}},
            "parameter prompt_name is 'no', the model's prompts are: none",
        ),
        ({"parameters": {"input_type": "question"}}, "it must be query or document or passage"),
    ],
)
def test_what_is_refused(client: Client, values: Values, message: str) -> None:
    """Each broken rule is INVALID_ARGUMENT, and the message names what broke it."""
    with pytest.raises(grpc.RpcError, match=message) as caught:
        client.infer([b"a"], **values)
    assert caught.value.code() is INVALID


@pytest.mark.parametrize("input_type", ["query", "passage"])
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (b"", "the text is empty"),
        (b" \n", "the text is empty"),
        (b"ok \xff", "the text is not UTF-8: invalid start byte at byte 3"),
        (b"a" * 5001, "the text has 5001 bytes, the limit max_text_bytes is 5000"),
    ],
)
def test_one_bad_text(client: Client, input_type: str, bad: bytes, message: str) -> None:
    """All or nothing: a bad text refuses the request, and its index is told, in either class."""
    with pytest.raises(grpc.RpcError, match=rf"text\[1\]: {message}") as caught:
        client.infer([b"good", bad, b"good"], parameters={"input_type": input_type})
    assert caught.value.code() is INVALID


@pytest.mark.parametrize("input_type", ["query", "passage"])
def test_what_fails_in_the_model(trap: Client, input_type: str) -> None:
    """A text that the model fails on is INTERNAL with its index, and the next request is served."""
    with pytest.raises(grpc.RpcError, match=r"text\[1\]: ") as caught:
        trap.infer([b"w1", b"fail"], parameters={"input_type": input_type})
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert values_of(trap.infer([b"w1", b"w2"]))["embeddings"].shape == (2, 8)


def test_names_and_versions(client: Client, tiny_bundle: Path) -> None:
    """The model is called by its name, a given one or none; another one, or version, is NOT_FOUND."""
    manifest = read_bundle(tiny_bundle).manifest
    for name in ("", "mine", manifest.name):
        for version in ("", manifest.fingerprint[:12], manifest.fingerprint):
            assert client.infer([b"a"], model_name=name, model_version=version).outputs
            ready = client.stub.ModelReady(oip.ModelReadyRequest(name=name, version=version), timeout=SECONDS)
            assert ready.ready
    for name, version in (("other", ""), ("", "1"), ("mine", "f" * 12)):
        with pytest.raises(grpc.RpcError, match="is not served here, but") as caught:
            client.infer([b"a"], model_name=name, model_version=version)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        asked = oip.ModelMetadataRequest(name=name, version=version)
        with pytest.raises(grpc.RpcError, match="is not served here, but"):
            client.stub.ModelMetadata(asked, timeout=SECONDS)
        ready = client.stub.ModelReady(oip.ModelReadyRequest(name=name, version=version), timeout=SECONDS)
        assert not ready.ready


def test_metadata(client: Client, tiny_bundle: Path) -> None:
    """What is told of the server and of the model's tensors is true."""
    manifest = read_bundle(tiny_bundle).manifest
    server = client.stub.ServerMetadata(oip.ServerMetadataRequest(), timeout=SECONDS)
    assert (server.name, bool(server.version), list(server.extensions)) == ("embedpool", True, [])
    told = client.stub.ModelMetadata(oip.ModelMetadataRequest(), timeout=SECONDS)
    assert (told.name, list(told.versions)) == (manifest.name, [manifest.fingerprint[:12]])
    assert [(one.name, one.datatype, list(one.shape)) for one in (*told.inputs, *told.outputs)] == [
        ("text", "BYTES", [-1, 1]),
        ("embeddings", "FP32", [-1, manifest.dim]),
        ("token_count", "INT32", [-1]),
    ]
