"""Another model without a pause, and the counts of a server, by RPC and by command."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from embedpool.v1 import admin_service_pb2 as admin
from embedpool.v1 import admin_service_pb2_grpc
from embedpool.v1 import embedding_service_pb2 as pb
from tests.integration.certificates import Authority

SECONDS = 60.0
TOKEN = "admin-token-of-some-length-01"  # noqa: S105  made up here
SHOWN = [("authorization", f"Bearer {TOKEN}")]


def command(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Runs `python -m worker …`."""
    return subprocess.run(
        [sys.executable, "-m", "worker", *arguments], capture_output=True, text=True, timeout=SECONDS
    )


@pytest.fixture
def token_file(tmp_path: Path) -> str:
    """A file with the token of an administrator."""
    path = tmp_path / "admin"
    path.write_text(f"# who may reload\nroot {TOKEN}\n")
    path.chmod(0o600)
    return str(path)


def test_reload_takes_over_and_refuses_what_is_no_bundle(
    start_worker: Callable[..., Any],
    stub_for: Callable[..., Any],
    tiny_bundle: Path,
    tiny_fp32_bundle: Path,
    token_file: str,
    tmp_path: Path,
) -> None:
    """Answers after a reload carry the new fingerprint; a folder that is no bundle changes nothing."""
    server = start_worker(tiny_bundle, "--admin-token-file", token_file)
    stub = stub_for(server)
    first = stub.GetModel(pb.GetModelRequest(), timeout=SECONDS)
    with grpc.insecure_channel(server.address) as channel:
        reload = admin_service_pb2_grpc.AdminServiceStub(channel).Reload
        request = admin.ReloadRequest(bundle=str(tiny_fp32_bundle))
        done = reload(request, metadata=SHOWN, timeout=SECONDS)
        assert (done.changed, done.generation, done.previous_fingerprint) == (True, 2, first.fingerprint)
        answer = stub.EmbedQuery(pb.EmbedQueryRequest(texts=["hello"]), timeout=SECONDS)
        assert answer.model_fingerprint == done.model_fingerprint != first.fingerprint
        again = reload(admin.ReloadRequest(), metadata=SHOWN, timeout=SECONDS)
        assert (again.changed, again.model_fingerprint) == (False, done.model_fingerprint)
        with pytest.raises(grpc.RpcError) as refused:
            reload(admin.ReloadRequest(bundle=str(tmp_path)), metadata=SHOWN, timeout=SECONDS)
        assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert "is no bundle" in refused.value.details()
    now = stub.GetModel(pb.GetModelRequest(), timeout=SECONDS)
    assert (now.fingerprint, now.generation) == (done.model_fingerprint, 2)
    assert "reload failed" in server.log.read_text()


def test_statistics_are_what_callers_got(
    start_worker: Callable[..., Any], stub_for: Callable[..., Any], tiny_bundle: Path
) -> None:
    """Counts by class, waits, runs and processes; the histograms are those of the metrics page."""
    server = start_worker(tiny_bundle)
    stub = stub_for(server)
    query = stub.EmbedQuery(pb.EmbedQueryRequest(texts=["hello world", "again"]), timeout=SECONDS)
    batch = pb.EmbedDocumentsRequest(batch_id=1, texts=[b"some words", b""])
    (documents,) = stub.EmbedDocuments(iter([batch]), timeout=SECONDS)
    with grpc.insecure_channel(server.address) as channel:
        ask = admin_service_pb2_grpc.AdminServiceStub(channel).GetStatistics
        told = ask(admin.GetStatisticsRequest(), timeout=SECONDS)
    assert dict(told.queries.texts) == {"ok": 2}
    assert told.queries.tokens == sum(query.token_counts)
    assert dict(told.documents.texts) == {"ok": 1, "refused": 1}
    assert told.documents.tokens == sum(item.token_count for item in documents.items)
    for one in (told.queries, told.documents):
        assert one.waiting == 0
        assert len(one.run_seconds.counts) == len(one.run_seconds.bounds) + 1
        assert sum(one.run_seconds.counts) == one.run_seconds.count == one.runs
        assert one.queue_seconds.count == one.texts["ok"]
    assert (told.generation, told.reloads, told.model_fingerprint) == (1, 0, query.model_fingerprint)
    assert 0 < told.uptime_seconds < SECONDS
    assert [one.slot for one in told.processes] == list(range(len(told.processes)))
    assert all(one.pid and one.resident_bytes >= one.proportional_bytes > 0 for one in told.processes)
    assert sum(one.runs for one in told.processes) == told.queries.runs + told.documents.runs
    assert (told.open_streams, told.query_bytes_in_flight, told.document_bytes_in_flight) == (0, 0, 0)


def test_commands_over_tls_with_a_token(
    start_worker: Callable[..., Any], tiny_bundle: Path, token_file: str, tmp_path: Path
) -> None:
    """`info --statistics` and `reload` reach a server that wants certificates and tokens."""
    authority = Authority(tmp_path / "authority")
    own, ours, ca = authority.sign("server"), authority.sign("client"), str(authority.pair.cert)
    server = start_worker(
        tiny_bundle,
        *("--tls-cert", str(own.cert), "--tls-key", str(own.key), "--tls-client-ca", ca),
        *("--token-file", token_file, "--admin-token-file", token_file),
    )
    target = ("--target", server.address, "--timeout", "20")
    reach = (*target, "--tls-ca", ca, "--tls-cert", str(ours.cert), "--tls-key", str(ours.key))
    shown = command("info", *reach, "--token-file", token_file, "--statistics", "--json")
    assert shown.returncode == 0, shown.stderr
    facts = json.loads(shown.stdout)
    assert facts["health"] == "SERVING"
    assert facts["statistics"]["model_fingerprint"] == facts["fingerprint"]
    done = command("reload", *reach, "--token-file", token_file, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["changed"] is False

    refused = command("info", *reach)
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"error: the server at {server.address} refused: UNAUTHENTICATED")
    half = command("info", *target, "--tls-ca", ca, "--tls-cert", str(ours.cert))
    assert (half.returncode, half.stdout) == (2, "")
    assert "belong together" in half.stderr
    assert TOKEN not in shown.stdout + done.stdout + refused.stderr
