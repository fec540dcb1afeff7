"""The search service, through a real pool and real sockets, against brute force."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_status import rpc_status

from build_models.quality.docstrings import Docstring
from embedpool.v1 import embedding_service_pb2 as embedding_pb
from embedpool.v1 import search_service_pb2 as pb
from indexer.client import Client
from tests.integration.indexer.conftest import Indexer
from tests.integration.indexer.serving import CALL_SECONDS, Caller, SearchServer, packed, search_server

StartWorker = Callable[..., Any]
COUNT = 200
QUERIES = ["parse an address", "send a file over a socket", "cancel a task"]


@dataclass(frozen=True)
class _Served:
    """A server, its index and its pool, and what the index holds, read by pyarrow alone."""

    server: SearchServer
    index: Path
    pool: str
    names: list[str]
    vectors: np.ndarray[Any, Any]

    def best(self, query: np.ndarray[Any, Any], k: int) -> list[tuple[str, float]]:
        """Returns the k nearest by brute force."""
        scores = self.vectors @ query
        order = np.argsort(-scores, kind="stable")[:k]
        return [(self.names[at], float(scores[at])) for at in order]


@pytest.fixture(scope="module")
def served(
    some_docstrings: list[Docstring],
    tiny_bundle: Path,
    start_shared_worker: StartWorker,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[_Served]:
    """200 docstrings, and a server with small limits."""
    folder = tmp_path_factory.mktemp("served")
    chosen = some_docstrings[:COUNT]
    table = pa.table({"doc_id": [one.qualified_name for one in chosen], "text": [one.text for one in chosen]})
    pq.write_table(table, folder / "a.parquet")
    pool = start_shared_worker(tiny_bundle, "--processes", "1").address
    index = folder / "index"
    run = ["run", "--input", folder / "a.parquet", "--output", index, "--worker", pool]
    Indexer().run(*run, "--text-columns", "text", "--unit-rows", "64", "--index-key", "Flat")
    stored = [pq.read_table(path) for path in sorted((index / "units").glob("*.parquet"))]
    names = [name for table in stored for name in table["doc_id"].to_pylist()]
    vectors = np.array([vector for table in stored for vector in table["embedding"].to_pylist()], np.float32)
    limits = ("--max-k", "50", "--max-queries", "8")
    with search_server(folder, "--index", index, "--worker", pool, *limits) as server:
        yield _Served(server, index, pool, names, vectors)


@pytest.fixture
def caller(served: _Served) -> Iterator[Caller]:
    """A client of the server."""
    one = Caller(served.server.address)
    yield one
    one.close()


def _pairs(hits: pb.Hits) -> list[tuple[str, float]]:
    return [(hit.doc_id, hit.score) for hit in hits.hits]


def _same(found: list[tuple[str, float]], wanted: list[tuple[str, float]], atol: float = 1e-5) -> bool:
    return [name for name, _ in found] == [name for name, _ in wanted] and np.allclose(
        [score for _, score in found], [score for _, score in wanted], atol=atol
    )


def test_texts_and_vectors_find_what_brute_force_finds(served: _Served, caller: Caller) -> None:
    """Hits of each query, in the order of queries, are the nearest; a text's are those of its vector."""
    with Client(served.pool) as pool:
        vectors = pool.embed_query(QUERIES).vectors
    by_text = caller.search(pb.SearchRequest(texts=QUERIES, k=5))
    by_vector = caller.search(pb.SearchRequest(vectors=packed(vectors), k=5))
    for text, vector, query in zip(by_text.results, by_vector.results, vectors, strict=True):
        assert _same(_pairs(text), served.best(query, 5))
        assert _same(_pairs(vector), served.best(query, 5))
    assert by_text.generation == "000001"
    assert by_text.timing.embed_ns > 0
    assert by_text.timing.search_ns > 0
    assert by_vector.timing.embed_ns == 0
    assert len(caller.search(pb.SearchRequest(texts=["few"])).results[0].hits) == 10


def test_vectors_travel_in_every_type(served: _Served, caller: Caller) -> None:
    """Halves and bytes with a scale find the nearest to what they stand for."""
    query = served.vectors[7:8]
    for kind, near in ((embedding_pb.VECTOR_TYPE_FLOAT16, 1e-3), (embedding_pb.VECTOR_TYPE_INT8, 2e-2)):
        found = caller.search(pb.SearchRequest(vectors=packed(query, kind), k=3))
        name, score = _pairs(found.results[0])[0]
        assert name == served.names[7]
        assert score == pytest.approx(float(query[0] @ query[0]), abs=near)


def test_it_tells_what_it_serves(served: _Served, caller: Caller) -> None:
    """Documents, width, model, limits and versions; health and reflection answer."""
    index = caller.index()
    assert (index.documents, index.vectors, index.dim) == (COUNT, COUNT, served.vectors.shape[1])
    assert (index.key, index.generation, index.max_k) == ("Flat", "000001", 50)
    assert index.model_fingerprint
    assert set(index.versions) >= {"embedpool", "faiss-cpu", "python"}
    with grpc.insecure_channel(served.server.address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for name in ("", "embedpool.v1.SearchService"):
            status = health.Check(health_pb2.HealthCheckRequest(service=name), timeout=CALL_SECONDS).status
            assert status == health_pb2.HealthCheckResponse.SERVING
        services = ProtoReflectionDescriptorDatabase(channel).get_services()
    assert "embedpool.v1.SearchService" in services


_UNKNOWN = embedding_pb.Vectors.FromString(b"\x10\x09\x18\x01\x20\x01")  # type 9 of 1 × 1 values
_ONE = np.ones((1, 32), np.float32)
_NAN = np.full((1, 32), np.nan, np.float32)


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (pb.SearchRequest(), "either texts or vectors: neither came"),
        (pb.SearchRequest(texts=["a"], vectors=packed(_ONE)), "either texts or vectors: both came"),
        (pb.SearchRequest(texts=["a", " \n"]), r"texts[1] is empty"),
        (pb.SearchRequest(texts=["a"], k=51), "k is 51, the limit max_k is 50"),
        (pb.SearchRequest(texts=["a"] * 9), "9 queries, the limit max_queries is 8"),
        (pb.SearchRequest(vectors=packed(np.ones((9, 32)))), "9 queries, the limit max_queries is 8"),
        (pb.SearchRequest(vectors=packed(np.ones((1, 31)))), "shape [1, 31], wanted [queries, 32]"),
        (pb.SearchRequest(vectors=packed(np.concatenate([_ONE, _NAN]))), "query 2 has a value that is no"),
        (pb.SearchRequest(vectors=packed(np.inf * _ONE)), "query 1 has a value that is no finite number"),
        (
            pb.SearchRequest(
                vectors=embedding_pb.Vectors(data=b"123", type="VECTOR_TYPE_FLOAT32", dim=32, rows=1)
            ),
            "has 3 bytes, wanted 128",
        ),
        (
            pb.SearchRequest(
                vectors=embedding_pb.Vectors(data=bytes(32), type="VECTOR_TYPE_INT8", dim=32, rows=1)
            ),
            "scales has 0 bytes, wanted 4",
        ),
        (pb.SearchRequest(vectors=_UNKNOWN), "vectors.type is 9; use a VectorType"),
        (pb.SearchRequest(vectors=embedding_pb.Vectors()), "at least one vector"),
        (pb.SearchRequest(vectors=embedding_pb.Vectors(data=b"1" * 8, rows=1 << 31, dim=1 << 31)), "queries"),
        (pb.SearchRequest(texts=["a"], columns=[""]), "a column has no name"),
    ],
)
def test_a_request_that_cannot_be_is_told_why(
    request_: pb.SearchRequest, words: str, served: _Served, caller: Caller
) -> None:
    """INVALID_ARGUMENT, with what came and what was wanted; the server goes on."""
    status, message = caller.failure(request_)
    assert (status, words in message) == ("INVALID_ARGUMENT", True), message
    assert "Traceback" not in served.server.log.read_text()
    assert caller.search(pb.SearchRequest(texts=["a"], k=1)).results


def test_bytes_that_are_no_message_are_told(served: _Served) -> None:
    """Not the server's fault, and no traceback in its log; nor are texts or filters there."""
    with grpc.insecure_channel(served.server.address) as channel:
        call = channel.unary_unary("/embedpool.v1.SearchService/Search")
        with pytest.raises(grpc.RpcError) as caught:
            call(b"\xff\xff\xff", timeout=CALL_SECONDS)
        with pytest.raises(grpc.RpcError) as not_text:
            call(b"\x0a\x02\xff\xfe", timeout=CALL_SECONDS)
    assert caught.value.code() is not_text.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "cannot be parsed" in str(caught.value.details())
    log = served.server.log.read_text()
    assert "Traceback" not in log
    assert "status=INVALID_ARGUMENT" in log


def test_what_the_pool_refuses_is_the_callers_to_mend(served: _Served, caller: Caller) -> None:
    """A text that is too large is INVALID_ARGUMENT, in the pool's words."""
    status, message = caller.failure(pb.SearchRequest(texts=["word " * 300_000]))
    assert status == "INVALID_ARGUMENT"
    assert "bytes" in message


def test_more_calls_than_the_limit_are_told_to_come_back(served: _Served, tmp_path: Path) -> None:
    """RESOURCE_EXHAUSTED with the time to wait; those that were let in are answered."""
    arguments = ("--index", served.index, "--worker", served.pool, "--max-concurrent", "1")
    with search_server(tmp_path, *arguments) as server, ThreadPoolExecutor(16) as threads:
        caller = Caller(server.address)
        request = pb.SearchRequest(texts=QUERIES, k=50)
        refused: list[grpc.RpcError] = []
        for _ in range(50):
            calls = [threads.submit(caller.search, request) for _ in range(16)]
            errors = [error for call in calls if (error := call.exception(CALL_SECONDS)) is not None]
            refused += [error for error in errors if isinstance(error, grpc.RpcError)]
            assert len(refused) == len(errors)
            assert any(call.exception() is None for call in calls)
            if refused:
                break
        caller.close()
    assert {error.code() for error in refused} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    (detail,) = rpc_status.from_call(refused[0]).details
    info = error_details_pb2.RetryInfo()
    assert detail.Unpack(info)
    assert info.retry_delay.ToTimedelta().total_seconds() > 0
