"""The Open Inference Protocol as Triton's own client speaks it, from an environment of its own."""

import base64
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from embedpool.v1 import embedding_service_pb2 as pb
from embedpool.v1 import embedding_service_pb2_grpc
from tests.bench.environments import python_of

SECONDS = 120.0
TEXTS = ["a red house", "Ünïcode ﬁrst — 北京 👩‍👩‍👧‍👦", "the list of names " * 90]
SCRIPT = Path(__file__).with_name("triton_client.py")


@pytest.fixture(scope="module")
def facts(start_shared_worker: Callable[..., Any], tiny_bundle: Path) -> dict[str, Any]:
    """What the client saw, and what the native wire says."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIP_RETRIES", "1")  # where no index can be reached this is to end soon
        patch.setenv("PIP_DEFAULT_TIMEOUT", "15")
        try:
            python = python_of("tritonclient")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"tritonclient cannot be installed here: {error}")
    server = start_shared_worker(tiny_bundle, "--http-served-names", "served")
    done = subprocess.run(
        [str(python), str(SCRIPT), server.address, "served"],
        input=json.dumps(TEXTS),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    with grpc.insecure_channel(server.address) as channel:
        stub = embedding_service_pb2_grpc.EmbeddingServiceStub(channel)
        for name, dimensions in (("native", 0), ("native_part", 8)):
            options = pb.EmbeddingOptions(dimensions=dimensions)
            found[name] = stub.EmbedQuery(pb.EmbedQueryRequest(texts=TEXTS, options=options), timeout=SECONDS)
    assert "Traceback" not in server.log.read_text()
    return found


def test_vectors_are_those_of_the_native_wire(facts: dict[str, Any]) -> None:
    """What the client reads as numpy arrays is bit-equal to native vectors, with threads and with asyncio."""
    native = facts["native"]
    for answer in (facts["sync"]["all"], *facts["aio"]["answers"]):
        assert base64.b64decode(answer["vectors"]) == native.vectors.data
        assert (answer["shape"], answer["type"]) == ([len(TEXTS), native.vectors.dim], "float32")
        assert answer["tokens"] == list(native.token_counts)
    assert facts["sync"]["all"]["id"] == "7"
    assert [answer["id"] for answer in facts["aio"]["answers"]] == ["0", "1", "2", "3"]


def test_parameters(facts: dict[str, Any]) -> None:
    """Parameters reach the model: fewer dimensions, a query of one text."""
    native, part = facts["native"], facts["native_part"]
    assert base64.b64decode(facts["sync"]["part"]["vectors"]) == part.vectors.data
    vectors = np.frombuffer(native.vectors.data, "<f4").reshape(len(TEXTS), -1)
    assert base64.b64decode(facts["sync"]["query"]["vectors"]) == vectors[:1].tobytes()


def test_state_and_metadata(facts: dict[str, Any]) -> None:
    """The client's questions about server and model are answered."""
    seen = facts["sync"]
    assert (seen["live"], seen["ready"], seen["model_ready"], seen["other_ready"]) == (
        True,
        True,
        True,
        False,
    )
    assert facts["aio"]["ready"]
    assert seen["server"] == "embedpool"
    assert seen["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": ["-1", "1"]}]


def test_refusals(facts: dict[str, Any]) -> None:
    """The client raises its own exception with the status and a message that tells what to do."""
    seen = facts["sync"]
    assert seen["unknown"].startswith("StatusCode.NOT_FOUND the model 'other' is not served here, but: ")
    assert seen["misspelt"] == (
        "StatusCode.INVALID_ARGUMENT the parameter 'dimension' is not known; did you mean dimensions?"
    )
    assert seen["empty"].startswith("StatusCode.INVALID_ARGUMENT text[1]: the text is empty")
