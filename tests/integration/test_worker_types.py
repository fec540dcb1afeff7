"""Types, dimensions and prompts that a caller chooses, against the bundle run in this process."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedpool.v1 import embedding_service_pb2 as pb
from tests.conftest import MakeModel
from worker.bundle import read_bundle
from worker.session import Session
from worker.tokenizer import Tokenizer

SECONDS = 60.0
DIM = 32
TEXTS = ["a red house", "rain", "the list of names that a function returns", "word " * 300]
NAMES = {"": "", "query": "find: ", "passage": "text: "}
TYPES = (pb.VECTOR_TYPE_FLOAT32, pb.VECTOR_TYPE_FLOAT16, pb.VECTOR_TYPE_INT8)
Ask = Callable[[pb.EmbeddingOptions], pb.Vectors]


@pytest.fixture(scope="module")
def prompted(make_model: MakeModel, eval_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose model has prompts for queries and for documents."""
    from build_models.config import BuildConfig
    from build_models.pipeline import build
    from build_models.quality.gate import Gate
    from build_models.recipes import parse_recipes

    folder = tmp_path_factory.mktemp("prompted")
    prompts = {name: text for name, text in NAMES.items() if name}
    model = make_model(folder / "model", prompts=prompts, seed=3)
    build(
        BuildConfig(
            model=str(model),
            out=folder / "bundle",
            recipes=parse_recipes("fp32"),
            eval_data=(eval_data,),
            gate=Gate(min_retention=0.5, min_bound=0, min_overlap=0),
        )
    )
    return folder / "bundle"


@pytest.fixture(scope="module")
def server(start_shared_worker: Callable[..., Any], prompted: Path) -> Any:
    """A server of it."""
    return start_shared_worker(prompted)


@pytest.fixture(params=["query", "stream"])
def ask(request: pytest.FixtureRequest, server: Any, stub_for: Callable[..., Any]) -> Ask:
    """Asks for the vectors of TEXTS, by either RPC."""
    stub = stub_for(server)

    def by_query(options: pb.EmbeddingOptions) -> pb.Vectors:
        response: pb.EmbedQueryResponse = stub.EmbedQuery(
            pb.EmbedQueryRequest(texts=TEXTS, options=options), timeout=SECONDS
        )
        return response.vectors

    def by_stream(options: pb.EmbeddingOptions) -> pb.Vectors:
        batch = pb.EmbedDocumentsRequest(texts=[text.encode() for text in TEXTS], options=options)
        (response,) = stub.EmbedDocuments(iter([batch]), timeout=SECONDS)
        vectors: pb.Vectors = response.vectors
        return vectors

    return by_query if request.param == "query" else by_stream


def bare(path: Path, prompt: str, dimensions: int) -> list[list[float]]:
    """Returns the oracle: the session's vectors, cut and of unit length again, in double precision."""
    bundle = read_bundle(path)
    session = Session(bundle)
    tokens = Tokenizer(bundle.tokenizer, bundle.manifest.max_tokens).encode([prompt + text for text in TEXTS])
    vectors = [session.embed([one.ids])[0].tolist()[: dimensions or DIM] for one in tokens]
    return [[value / math.hypot(*vector) for value in vector] for vector in vectors]


def unpack(vectors: pb.Vectors) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Returns the values as a client reads them."""
    kind = {pb.VECTOR_TYPE_FLOAT32: "<f4", pb.VECTOR_TYPE_FLOAT16: "<f2", pb.VECTOR_TYPE_INT8: "i1"}
    values = np.frombuffer(vectors.data, kind[vectors.type]).astype(np.float64)
    values = values.reshape(vectors.rows, vectors.dim)
    scales = np.frombuffer(vectors.scales, "<f4")[:, None] if vectors.scales else 1.0
    result: np.ndarray[Any, np.dtype[np.float64]] = values * scales
    return result


# Largest error of a value, in parts of the row's largest value: rounding to 24 and 11 bits, and half a step
# of 127.
ERRORS = {pb.VECTOR_TYPE_FLOAT32: 2e-6, pb.VECTOR_TYPE_FLOAT16: 2**-11, pb.VECTOR_TYPE_INT8: 0.501 / 127}
LEAST_COSINES = {
    pb.VECTOR_TYPE_FLOAT32: 1 - 1e-9,
    pb.VECTOR_TYPE_FLOAT16: 1 - 1e-6,
    pb.VECTOR_TYPE_INT8: 1 - 1e-4,
}


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("dimensions", [0, 1, 8, 31, 32])
def test_types_and_dimensions(ask: Ask, prompted: Path, kind: Any, dimensions: int) -> None:
    """Each value is as near to the oracle as its type allows, and so is the vector's direction."""
    vectors = ask(pb.EmbeddingOptions(vector_type=kind, dimensions=dimensions, prompt_name=""))
    expected = np.array(bare(prompted, "", dimensions))
    values = unpack(vectors)
    assert (vectors.type, vectors.dim, vectors.rows) == (kind, dimensions or DIM, len(TEXTS))
    assert bool(vectors.scales) == (kind == pb.VECTOR_TYPE_INT8)
    largest = np.abs(expected).max(axis=1, keepdims=True)
    assert (np.abs(values - expected) / largest).max() <= ERRORS[kind]
    lengths = np.linalg.norm(values, axis=1)
    cosines = (values * expected).sum(axis=1) / lengths
    assert cosines.min() >= LEAST_COSINES[kind]
    assert np.abs(lengths - 1).max() <= 0.01
    # Who is nearest to whom is what a search asks.
    if dimensions != 1:
        nearest = (values @ values.T - 9 * np.eye(len(TEXTS))).argmax(axis=1)
        assert nearest.tolist() == (expected @ expected.T - 9 * np.eye(len(TEXTS))).argmax(axis=1).tolist()


@pytest.mark.parametrize("name", sorted(NAMES))
def test_prompt_by_name(ask: Ask, prompted: Path, name: str) -> None:
    """A prompt that is named is put in front of each text, whichever RPC is asked; "" is none."""
    vectors = ask(pb.EmbeddingOptions(prompt_name=name))
    np.testing.assert_allclose(unpack(vectors), bare(prompted, NAMES[name], 0), atol=2e-6)


def test_prompts_by_default(ask: Ask, prompted: Path, request: pytest.FixtureRequest) -> None:
    """Without a name, queries have the model's prompt for queries, documents that for documents."""
    manifest = read_bundle(prompted).manifest
    is_query = request.node.callspec.params["ask"] == "query"
    name = manifest.query_prompt if is_query else manifest.document_prompt
    assert name
    np.testing.assert_allclose(
        unpack(ask(pb.EmbeddingOptions())), bare(prompted, manifest.prompts[name], 0), atol=2e-6
    )
