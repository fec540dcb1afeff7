"""A server started as a user would: it serves, says what it serves, and how it is."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from embedpool.v1 import embedding_service_pb2 as pb
from embedpool.v1 import embedding_service_pb2_grpc
from worker.bundle import read_bundle
from worker.cpus import read_cpus
from worker.session import Session
from worker.tokenizer import Tokenizer

TEXTS = ["a red house", "rain", "the quick brown fox jumps over the lazy dog " * 40]


def bare(path: Path, texts: list[str]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Returns the vectors of the bundle run in this process, one text at a time."""
    bundle = read_bundle(path)
    session = Session(bundle)
    tokens = Tokenizer(bundle.tokenizer, bundle.manifest.max_tokens).encode(texts)
    return np.concatenate([session.embed([one.ids]) for one in tokens])


def test_query_gets_the_session_s_vectors(
    start_worker: Callable[..., Any], stub_for: Callable[..., Any], tiny_bundle: Path
) -> None:
    """A query's vectors are bit-identical to those of the bundle run in process; counts and cuts are told."""
    bundle = read_bundle(tiny_bundle)
    tokens = Tokenizer(bundle.tokenizer, bundle.manifest.max_tokens).encode(TEXTS)
    stub = stub_for(start_worker(tiny_bundle))
    response = stub.EmbedQuery(pb.EmbedQueryRequest(texts=TEXTS), timeout=30)
    assert response.vectors.data == bare(tiny_bundle, TEXTS).astype("<f4").tobytes()
    assert list(response.token_counts) == [len(one.ids) for one in tokens]
    assert list(response.truncated) == [False, False, True]
    assert response.model_fingerprint == bundle.manifest.fingerprint
    assert response.timing.run_ns > 0
    assert response.timing.tokenize_ns > 0


def test_documents_get_a_status_each(
    start_worker: Callable[..., Any], stub_for: Callable[..., Any], tiny_bundle: Path
) -> None:
    """A bad document is an item with a code and a reason; its neighbours get their vectors."""
    stub = stub_for(start_worker(tiny_bundle, "--max-text-bytes", "3000"))
    texts = [b"a red house", b"", b"\xff\xfe", b"x" * 3001, b" \n", b"rain", TEXTS[2].encode()]
    options = pb.EmbeddingOptions(truncation=pb.TRUNCATION_REJECT)
    batch = pb.EmbedDocumentsRequest(batch_id=2**64 - 1, texts=texts, options=options)
    (response,) = stub.EmbedDocuments(iter([batch]), timeout=30)
    invalid = grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert response.batch_id == 2**64 - 1
    assert [item.code for item in response.items] == [0, *[invalid] * 4, 0, invalid]
    reasons = [item.message for item in response.items]
    for reason, words in zip(
        reasons, ["", "empty", "UTF-8", "3001 bytes", "empty", "", "more than 128 tokens"], strict=True
    ):
        assert words in reason
        assert bool(reason) == bool(words)
    assert response.vectors.data == bare(tiny_bundle, ["a red house", "rain"]).astype("<f4").tobytes()
    assert response.vectors.rows == 2


def test_every_batch_is_answered_once(
    start_worker: Callable[..., Any], stub_for: Callable[..., Any], tiny_bundle: Path
) -> None:
    """Batches of many sizes, the empty one too, each get one answer with all of their items."""
    stub = stub_for(start_worker(tiny_bundle))
    sizes = {number: number % 7 * 9 for number in range(60)}
    batches = [
        pb.EmbedDocumentsRequest(batch_id=number, texts=[b"word %d" % text for text in range(size)])
        for number, size in sizes.items()
    ]
    answers = [(one.batch_id, len(one.items)) for one in stub.EmbedDocuments(iter(batches), timeout=60)]
    assert sorted(answers) == sorted(sizes.items())


def test_prompts_are_put_in_front(
    start_worker: Callable[..., Any], stub_for: Callable[..., Any], trap_bundle: Path
) -> None:
    """Queries get the model's query prompt, documents theirs, and a caller may name another or none."""
    stub = stub_for(start_worker(trap_bundle))
    default = stub.EmbedQuery(pb.EmbedQueryRequest(texts=["w5"]), timeout=30).vectors.data
    none = pb.EmbeddingOptions(prompt_name="")
    plain = stub.EmbedQuery(pb.EmbedQueryRequest(texts=["w5"], options=none), timeout=30).vectors.data
    written = stub.EmbedQuery(pb.EmbedQueryRequest(texts=["w1 w2 w5"], options=none), timeout=30).vectors.data
    named = pb.EmbedDocumentsRequest(texts=[b"w5"], options=pb.EmbeddingOptions(prompt_name="question"))
    (documents,) = stub.EmbedDocuments(iter([pb.EmbedDocumentsRequest(texts=[b"w5"])]), timeout=30)
    (prompted,) = stub.EmbedDocuments(iter([named]), timeout=30)
    assert default == written == prompted.vectors.data
    assert plain == documents.vectors.data
    assert default != plain


def test_model_is_described(
    start_worker: Callable[..., Any], stub_for: Callable[..., Any], tiny_bundle: Path
) -> None:
    """GetModel tells what the manifest says and the limits of the command line."""
    manifest = read_bundle(tiny_bundle).manifest
    model = stub_for(start_worker(tiny_bundle, "--max-query-texts", "3")).GetModel(
        pb.GetModelRequest(), timeout=30
    )
    assert (model.fingerprint, model.dim, model.max_tokens) == (
        manifest.fingerprint,
        manifest.dim,
        manifest.max_tokens,
    )
    assert (model.limits.max_query_texts, model.pooling, model.normalized) == (3, "mean", True)
    assert model.processes >= 1
    assert model.versions["onnxruntime"]


def test_health_and_reflection(start_worker: Callable[..., Any], tiny_bundle: Path) -> None:
    """Health answers for the server and for the service; reflection lists the service."""
    with grpc.insecure_channel(start_worker(tiny_bundle).address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for service in ("", "embedpool.v1.EmbeddingService"):
            answer = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=30)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        (answer,) = stub.ServerReflectionInfo(iter([request]), timeout=30)
        assert "embedpool.v1.EmbeddingService" in {one.name for one in answer.list_services_response.service}


def test_info_command(start_worker: Callable[..., Any], tiny_bundle: Path) -> None:
    """`worker info` prints what is served as JSON, and one line of error when nobody answers."""
    command = [sys.executable, "-m", "worker", "info", "--json", "--target"]
    target = start_worker(tiny_bundle).address
    shown = subprocess.run([*command, target], capture_output=True, text=True, timeout=60, check=True)
    facts = json.loads(shown.stdout)
    assert facts["fingerprint"] == read_bundle(tiny_bundle).manifest.fingerprint
    assert facts["health"] == "SERVING"
    dead = subprocess.run(
        [*command, "unix:/nowhere/at.all", "--timeout", "0.5"], capture_output=True, text=True, timeout=60
    )
    assert dead.returncode == 1
    assert dead.stderr.startswith("error: no embedpool server answers at unix:/nowhere/at.all")
    assert dead.stderr.count("\n") == 1


class _Starting(embedding_service_pb2_grpc.EmbeddingServiceServicer):
    """A server that is there and cannot embed yet."""

    def GetModel(self, request: pb.GetModelRequest, context: object) -> pb.GetModelResponse:  # noqa: N802
        return pb.GetModelResponse(name="starting")


def test_info_fails_where_nothing_is_served(tmp_path: Path) -> None:
    """`worker info`, the image's health check, fails when the server says that it does not serve."""
    server = grpc.server(ThreadPoolExecutor(2))
    embedding_service_pb2_grpc.add_EmbeddingServiceServicer_to_server(_Starting(), server)
    status = health.HealthServicer()
    status.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(status, server)
    target = f"unix:{tmp_path}/s"
    server.add_insecure_port(target)
    server.start()
    try:
        command = [sys.executable, "-m", "worker", "info", "--target", target]
        shown = subprocess.run(command, capture_output=True, text=True, timeout=60)
    finally:
        server.stop(None).wait(30)
    assert shown.returncode == 1
    assert "health: NOT_SERVING" in shown.stdout
    assert shown.stderr == f"error: the server at {target} is NOT_SERVING; its log says why\n"


@pytest.mark.parametrize("scheme", ["unix", "tcp"])
def test_ready_line_is_what_a_client_dials(
    start_worker: Callable[..., Any],
    stub_for: Callable[..., Any],
    tiny_bundle: Path,
    tmp_path: Path,
    scheme: str,
) -> None:
    """The address of the ready line works as it stands, for a free port and for a Unix socket."""
    listen = f"unix:{tmp_path}/s" if scheme == "unix" else "127.0.0.1:0"
    server = start_worker(tiny_bundle, listen=listen)
    assert stub_for(server).GetModel(pb.GetModelRequest(), timeout=30).dim == 32
    assert server.address == listen or not server.address.endswith(":0")


def thread_ticks(pid: int) -> dict[int, int]:
    """Returns the CPU time of each thread of a process, in clock ticks."""
    return {
        int(task.name): sum(map(int, (task / "stat").read_text().rpartition(")")[2].split()[11:13]))
        for task in Path(f"/proc/{pid}/task").iterdir()
    }


def test_compute_threads_fit_the_cpus(
    start_worker: Callable[..., Any], stub_for: Callable[..., Any], tiny_bundle: Path
) -> None:
    """One process per usable CPU, each of one thread; pinned to a CPU of its own where they fill the mask."""
    cpus = read_cpus()
    server = start_worker(tiny_bundle)
    batches = [
        pb.EmbedDocumentsRequest(batch_id=number, texts=[TEXTS[2].encode()] * 50) for number in range(10)
    ]
    assert len(list(stub_for(server).EmbedDocuments(iter(batches), timeout=60))) == 10
    children = server.child_pids()
    assert len(children) == cpus.usable
    for child in children:
        # onnxruntime starts a thread that sleeps for ever; only the main thread may ever have computed.
        assert [pid for pid, ticks in thread_ticks(child).items() if ticks] == [child]
    pins = [os.sched_getaffinity(pid) for pid in children]
    if cpus.usable == len(cpus.mask):
        assert sorted(pins, key=min) == [{cpu} for cpu in cpus.mask]
    else:
        assert pins == [set(cpus.mask)] * len(children)


def test_affinity_mask_bounds_the_pool(
    start_worker: Callable[..., Any], stub_for: Callable[..., Any], tiny_bundle: Path
) -> None:
    """A server that may use one CPU starts one process, however many the host has."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        server = start_worker(tiny_bundle)
    finally:
        os.sched_setaffinity(0, before)
    (child,) = server.child_pids()
    assert os.sched_getaffinity(child) == {max(before)}
    assert stub_for(server).GetModel(pb.GetModelRequest(), timeout=30).processes == 1
