"""Processes that die, hang or fail: every text has one outcome, and the pool lives on."""

import contextlib
import os
import select
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from embedpool.v1 import embedding_service_pb2 as pb
from worker.bundle import read_bundle
from worker.processes.procfs import cpu_ticks
from worker.session import Session
from worker.tokenizer import Tokenizer

SECONDS = 60.0
INTERNAL = grpc.StatusCode.INTERNAL.value[0]


def bare(path: Path, texts: list[bytes]) -> list[bytes]:
    """Returns the packed vector of each text, computed in this process, one at a time."""
    bundle = read_bundle(path)
    session = Session(bundle)
    tokens = Tokenizer(bundle.tokenizer, bundle.manifest.max_tokens).encode([text.decode() for text in texts])
    return [session.embed([one.ids]).astype("<f4").tobytes() for one in tokens]


def documents(texts: list[bytes], size: int) -> Iterator[pb.EmbedDocumentsRequest]:
    """Cuts texts into batches; the id is the index of the first text."""
    for first in range(0, len(texts), size):
        yield pb.EmbedDocumentsRequest(batch_id=first, texts=texts[first : first + size])


def wait_for_health(channel: grpc.Channel, wanted: int) -> None:
    """Returns when the server says so of itself."""
    watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=SECONDS)
    assert any(update.status == wanted for update in watch)
    watch.cancel()


def test_killed_processes_lose_and_double_nothing(
    start_worker: Callable[..., Any], stub_for: Callable[..., Any], tiny_bundle: Path
) -> None:
    """Processes killed in the middle of a stream: each text gets its vector, once, bit-identical."""
    texts = [b"text %d " % number * (1 + number % 50) for number in range(1500)]
    server = start_worker(tiny_bundle)
    answers: dict[int, bytes] = {}
    victims = server.child_pids()
    for answer in stub_for(server).EmbedDocuments(documents(texts, 5), timeout=SECONDS):
        assert all(item.code == 0 for item in answer.items)
        assert answer.batch_id not in answers
        answers[answer.batch_id] = answer.vectors.data
        # Not both at once: a text that two processes held when they ended is held to be guilty.
        if victims and len(answers) % 60 == 0:
            os.kill(victims.pop(), signal.SIGKILL)
    expected = bare(tiny_bundle, texts)
    assert sorted(answers) == list(range(0, len(texts), 5))
    for first, data in answers.items():
        assert data == b"".join(expected[first : first + 5])
    assert server.log.read_text().count("process gone") >= 1


def test_pool_of_one_survives_its_process(
    start_worker: Callable[..., Any], stub_for: Callable[..., Any], tiny_bundle: Path
) -> None:
    """With its only process gone the server says NOT_SERVING, then SERVING, and vectors are the same."""
    server = start_worker(tiny_bundle, "--processes", "1")
    stub = stub_for(server)
    query = pb.EmbedQueryRequest(texts=["a red house"])
    before = stub.EmbedQuery(query, timeout=SECONDS).vectors.data
    (child,) = server.child_pids()
    with grpc.insecure_channel(server.address) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=SECONDS)
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        os.kill(child, signal.SIGKILL)
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        watch.cancel()
    assert server.child_pids() != [child]
    assert stub.EmbedQuery(query, timeout=SECONDS).vectors.data == before


def test_text_that_hangs_is_left_out_alone(
    start_worker: Callable[..., Any], stub_for: Callable[..., Any], trap_bundle: Path
) -> None:
    """A text on which the model never ends costs two processes, then it is INTERNAL; all others are well."""
    texts = [b"w1 w2", b"w3", b"w4 hang w5", b"w6", b"w7 w8 w9"]
    harmless = [text for text in texts if b"hang" not in text]
    server = start_worker(trap_bundle, "--run-seconds", "1")
    (answer,) = stub_for(server).EmbedDocuments(documents(texts, 9), timeout=SECONDS)
    assert [item.code for item in answer.items] == [0, 0, INTERNAL, 0, 0]
    assert "ended 2 processes" in answer.items[2].message
    assert answer.vectors.data == b"".join(bare(trap_bundle, harmless))
    (again,) = stub_for(server).EmbedDocuments(documents(harmless, 9), timeout=SECONDS)
    assert again.vectors.data == answer.vectors.data


def test_query_that_hangs_is_internal(
    start_worker: Callable[..., Any], stub_for: Callable[..., Any], trap_bundle: Path
) -> None:
    """The same text as a query is INTERNAL for its caller, and the next query is served."""
    stub = stub_for(start_worker(trap_bundle, "--run-seconds", "1"))
    with pytest.raises(grpc.RpcError, match=r"texts\[1\]: .*ended 2 processes") as caught:
        stub.EmbedQuery(pb.EmbedQueryRequest(texts=["w1", "hang"]), timeout=SECONDS)
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    query = pb.EmbedQueryRequest(texts=["w1"])
    with contextlib.suppress(grpc.RpcError):  # both processes may be loading at this moment
        stub.EmbedQuery(query, timeout=SECONDS)
    assert stub.EmbedQuery(query, timeout=SECONDS, wait_for_ready=True).vectors.rows == 1


@pytest.mark.parametrize(("word", "reason"), [("fail", "failed on 1 ×"), ("nan", "not finite")])
def test_text_that_fails_in_the_model(
    start_shared_worker: Callable[..., Any],
    stub_for: Callable[..., Any],
    trap_bundle: Path,
    word: str,
    reason: str,
) -> None:
    """A text on which the model fails is INTERNAL alone and ends no process."""
    server = start_shared_worker(trap_bundle)
    children = server.child_pids()
    texts = [b"w1 w2", word.encode(), b"w3"]
    (answer,) = stub_for(server).EmbedDocuments(documents(texts, 9), timeout=SECONDS)
    assert [item.code for item in answer.items] == [0, INTERNAL, 0]
    assert reason in answer.items[1].message
    assert answer.vectors.data == b"".join(bare(trap_bundle, [texts[0], texts[2]]))
    with pytest.raises(grpc.RpcError, match=reason) as caught:
        stub_for(server).EmbedQuery(pb.EmbedQueryRequest(texts=[word]), timeout=SECONDS)
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert server.child_pids() == children


def test_bundle_exchanged_under_a_running_server(
    start_worker: Callable[..., Any], stub_for: Callable[..., Any], trap_bundle: Path, tmp_path: Path
) -> None:
    """No process that loads after the exchange is put to work: vectors of two models never mix.

    One that is only forked again keeps the model that was loaded before.
    """
    folder = tmp_path / "bundle"
    folder.mkdir()
    for file in trap_bundle.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    server = start_worker(folder, "--processes", "1")
    manifest = (folder / "manifest.json").read_text()
    changed = manifest.replace(read_bundle(folder).manifest.fingerprint, "0" * 64)
    (folder / "manifest.json").write_text(changed)
    stub = stub_for(server)
    before = stub.EmbedQuery(pb.EmbedQueryRequest(texts=["w1"]), timeout=SECONDS)
    (zygote,) = server.zygote_pids()
    with grpc.insecure_channel(server.address) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=SECONDS)
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        os.kill(server.child_pids()[0], signal.SIGKILL)
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        watch.cancel()
    assert stub.EmbedQuery(pb.EmbedQueryRequest(texts=["w1"]), timeout=SECONDS).vectors == before.vectors
    for pid in (zygote, *server.child_pids()):
        os.kill(pid, signal.SIGKILL)
    with grpc.insecure_channel(server.address) as channel:
        wait_for_health(channel, health_pb2.HealthCheckResponse.NOT_SERVING)
        with pytest.raises(grpc.RpcError) as caught:
            stub_for(server).EmbedQuery(pb.EmbedQueryRequest(texts=["w1"]), timeout=SECONDS)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        (folder / "manifest.json").write_text(manifest)
        wait_for_health(channel, health_pb2.HealthCheckResponse.SERVING)
    assert stub_for(server).EmbedQuery(pb.EmbedQueryRequest(texts=["w1"]), timeout=SECONDS).vectors.rows == 1


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "unix"])
def test_no_orphans_when_the_server_is_killed(
    start_worker: Callable[..., Any], tiny_bundle: Path, tmp_path: Path, listen: str
) -> None:
    """Compute processes end when the server is killed without a chance to end them."""
    listen = f"unix:{tmp_path}/s" if listen == "unix" else listen
    server = start_worker(tiny_bundle, listen=listen)
    children = [os.pidfd_open(pid) for pid in server.child_pids()]
    assert children
    os.kill(server.process.pid, signal.SIGKILL)
    for child in children:
        ended, _, _ = select.select([child], [], [], SECONDS)
        os.close(child)
        assert ended


def test_no_orphan_that_computes(
    start_worker: Callable[..., Any], stub_for: Callable[..., Any], trap_bundle: Path
) -> None:
    """A process that would compute for ever, and see no socket end, goes with a server that is killed too."""
    server = start_worker(trap_bundle, "--processes", "1")
    (pid,) = server.child_pids()
    child, zygote = os.pidfd_open(pid), os.pidfd_open(server.zygote_pids()[0])
    query = stub_for(server).EmbedQuery.future(pb.EmbedQueryRequest(texts=["hang"]), timeout=SECONDS)
    before = cpu_ticks(pid)
    while cpu_ticks(pid) < before + 5:
        assert not query.done()
    os.kill(server.process.pid, signal.SIGKILL)
    for process in (child, zygote):
        ended, _, _ = select.select([process], [], [], SECONDS)
        os.close(process)
        assert ended


def test_signals_to_the_whole_group_end_no_compute_process(
    start_worker: Callable[..., Any], stub_for: Callable[..., Any], tiny_bundle: Path
) -> None:
    """SIGINT and SIGTERM for the whole group (a terminal's, a container's) are for the server to decide."""
    server = start_worker(tiny_bundle)
    children = server.child_pids()
    for child in children:
        os.kill(child, signal.SIGINT)
        os.kill(child, signal.SIGTERM)
    texts = [b"text %d" % number for number in range(50)]
    assert len(list(stub_for(server).EmbedDocuments(documents(texts, 5), timeout=SECONDS))) == 10
    assert server.child_pids() == children


def test_leaving_caller_takes_its_work_along(
    start_worker: Callable[..., Any], stub_for: Callable[..., Any], tiny_bundle: Path
) -> None:
    """Texts of a cancelled stream leave the queue: a stream that comes later has the pool for itself."""
    server = start_worker(tiny_bundle, "--processes", "1")
    (child,) = server.child_pids()
    os.kill(child, signal.SIGSTOP)
    stub = stub_for(server)
    gone = threading.Event()
    first = stub.EmbedDocuments(documents([b"word " * 200] * 4000, 400), timeout=SECONDS)
    first.add_callback(gone.set)
    first.cancel()
    assert gone.wait(SECONDS)
    os.kill(child, signal.SIGCONT)
    (answer,) = stub.EmbedDocuments(documents([b"a red house"], 1), timeout=SECONDS)
    assert answer.vectors.data == bare(tiny_bundle, [b"a red house"])[0]
    assert server.terminate() == 0
    assert "Traceback" not in server.log.read_text()


def test_groups_of_equal_length_keep_their_vectors(
    start_worker: Callable[..., Any], stub_for: Callable[..., Any], tiny_fp32_bundle: Path
) -> None:
    """Where a bundle allows groups, a text's vector in a group has cosine ≥ 0.99999 with that alone."""
    texts = [b"rain %d falls" % (number % 10) for number in range(400)]
    answers = stub_for(start_worker(tiny_fp32_bundle)).EmbedDocuments(documents(texts, 40), timeout=SECONDS)
    data = b"".join(one.vectors.data for one in sorted(answers, key=lambda one: one.batch_id))
    vectors = np.frombuffer(data, "<f4").reshape(len(texts), -1)
    alone = np.frombuffer(b"".join(bare(tiny_fp32_bundle, texts)), "<f4").reshape(vectors.shape)
    assert (vectors * alone).sum(axis=1).min() >= 0.99999


def test_exact_texts_have_the_bits_that_they_have_alone(
    start_worker: Callable[..., Any], stub_for: Callable[..., Any], tiny_fp32_bundle: Path
) -> None:
    """Asked for exactly, a text has to the last bit the vector of a run of its own, beside any neighbours."""
    texts = [b"rain %d falls on a red house by the sea" % (number % 10) for number in range(200)]
    stub = stub_for(start_worker(tiny_fp32_bundle))
    requests = list(documents(texts, 40))
    requests[0].options.exact = True
    answers = sorted(stub.EmbedDocuments(iter(requests), timeout=SECONDS), key=lambda one: one.batch_id)
    assert b"".join(one.vectors.data for one in answers) == b"".join(bare(tiny_fp32_bundle, texts))
    options = pb.EmbeddingOptions(exact=True)
    asked = [text.decode() for text in texts[:10]]
    query = stub.EmbedQuery(pb.EmbedQueryRequest(texts=asked, options=options), timeout=SECONDS)
    assert query.vectors.data == b"".join(bare(tiny_fp32_bundle, texts[:10]))
