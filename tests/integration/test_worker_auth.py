"""Tokens: who may call what, by metadata; rotation while the server runs; sockets of the owner alone."""

import signal
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from embedpool.v1 import admin_service_pb2 as admin
from embedpool.v1 import admin_service_pb2_grpc, embedding_service_pb2_grpc
from embedpool.v1 import embedding_service_pb2 as pb
from tests.integration.test_worker_startup import assert_refused, serve

SECONDS = 30.0
EMBED = "embed-token-of-some-length-01"
ADMIN = "admin-token-of-some-length-02"
NEXT = "next-token-of-some-length-0003"
UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED
PERMISSION_DENIED = grpc.StatusCode.PERMISSION_DENIED


def write(path: Path, text: str) -> Path:
    """Writes a token file whole at once, readable by its owner only."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.chmod(0o600)
    return new.replace(path)


def shows(token: str) -> list[tuple[str, str]]:
    """Returns the metadata that shows a token."""
    return [("authorization", f"Bearer {token}")]


def status_of(method: Any, request: Any, token: str | None = None) -> grpc.StatusCode:
    """Calls a method; returns the status."""
    try:
        method(request, timeout=SECONDS, metadata=shows(token) if token else [])
    except grpc.RpcError as error:
        code: grpc.StatusCode = error.code()
        return code
    return grpc.StatusCode.OK


@pytest.fixture(scope="module")
def guarded(
    start_shared_worker: Callable[..., Any], tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> Any:
    """A server with a token of each kind."""
    folder = tmp_path_factory.mktemp("tokens")
    return start_shared_worker(
        tiny_bundle,
        *("--token-file", str(write(folder / "embed", f"search {EMBED}\n"))),
        *("--admin-token-file", str(write(folder / "admin", ADMIN))),
    )


def test_only_who_shows_a_token_may_embed(guarded: Any) -> None:
    """Without a token, or with a wrong one, every RPC but health is refused; an admin may embed too."""
    with grpc.insecure_channel(guarded.address) as channel:
        stub = embedding_service_pb2_grpc.EmbeddingServiceStub(channel)
        query = pb.EmbedQueryRequest(texts=["hello"])
        for method, request in ((stub.EmbedQuery, query), (stub.GetModel, pb.GetModelRequest())):
            assert status_of(method, request) is UNAUTHENTICATED
            assert status_of(method, request, EMBED + "x") is UNAUTHENTICATED
            for token in (EMBED, ADMIN):
                assert status_of(method, request, token) is grpc.StatusCode.OK
        health = health_pb2_grpc.HealthStub(channel).Check
        assert status_of(health, health_pb2.HealthCheckRequest()) is grpc.StatusCode.OK


def test_streams_need_a_token_too(guarded: Any) -> None:
    """A bulk stream and reflection end with UNAUTHENTICATED, although nothing was sent on them yet."""
    with grpc.insecure_channel(guarded.address) as channel:
        stub = embedding_service_pb2_grpc.EmbeddingServiceStub(channel)
        info = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo
        batch = pb.EmbedDocumentsRequest(batch_id=1, texts=[b"hello"])
        question = reflection_pb2.ServerReflectionRequest(list_services="")
        for method, message in ((stub.EmbedDocuments, batch), (info, question)):
            for sent in ([], [message]):
                with pytest.raises(grpc.RpcError) as refused:
                    list(method(iter(sent), timeout=SECONDS))
                assert refused.value.code() is UNAUTHENTICATED
            assert len(list(method(iter([message]), timeout=SECONDS, metadata=shows(EMBED)))) == 1


def test_only_an_administrator_may_reload(guarded: Any) -> None:
    """A token that may embed is not enough to change the model; statistics are for all who may embed."""
    with grpc.insecure_channel(guarded.address) as channel:
        stub = admin_service_pb2_grpc.AdminServiceStub(channel)
        assert status_of(stub.Reload, admin.ReloadRequest()) is UNAUTHENTICATED
        assert status_of(stub.Reload, admin.ReloadRequest(), EMBED) is PERMISSION_DENIED
        assert status_of(stub.Reload, admin.ReloadRequest(), ADMIN) is grpc.StatusCode.OK
        assert status_of(stub.GetStatistics, admin.GetStatisticsRequest()) is UNAUTHENTICATED
        assert status_of(stub.GetStatistics, admin.GetStatisticsRequest(), EMBED) is grpc.StatusCode.OK


def test_no_token_is_logged(guarded: Any) -> None:
    """The log names who called by the token's name, and never holds a token."""
    with grpc.insecure_channel(guarded.address) as channel:
        stub = embedding_service_pb2_grpc.EmbeddingServiceStub(channel)
        status_of(stub.GetModel, pb.GetModelRequest(), EMBED)
        status_of(stub.GetModel, pb.GetModelRequest(), EMBED + "x")
    log = guarded.log.read_text()
    assert "status=UNAUTHENTICATED" in log
    assert EMBED not in log
    assert ADMIN not in log


def test_tokens_are_rotated_without_a_restart(
    start_worker: Callable[..., Any], tiny_bundle: Path, tmp_path: Path
) -> None:
    """After the file was replaced the new token is known, with SIGHUP at once, and the old one is not."""
    path = write(tmp_path / "tokens", EMBED)
    server = start_worker(tiny_bundle, "--token-file", str(path))
    with grpc.insecure_channel(server.address) as channel:
        stub = embedding_service_pb2_grpc.EmbeddingServiceStub(channel)
        assert status_of(stub.GetModel, pb.GetModelRequest(), EMBED) is grpc.StatusCode.OK
        write(path, NEXT)
        server.process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + SECONDS
        while status_of(stub.GetModel, pb.GetModelRequest(), NEXT) is not grpc.StatusCode.OK:
            assert time.monotonic() < deadline
        assert status_of(stub.GetModel, pb.GetModelRequest(), EMBED) is UNAUTHENTICATED


def test_reload_by_rpc_needs_an_admin_file(start_worker: Callable[..., Any], tiny_bundle: Path) -> None:
    """A server without tokens for administrators says what to do in its place."""
    server = start_worker(tiny_bundle)
    with grpc.insecure_channel(server.address) as channel, pytest.raises(grpc.RpcError) as refused:
        admin_service_pb2_grpc.AdminServiceStub(channel).Reload(admin.ReloadRequest(), timeout=SECONDS)
    assert refused.value.code() is PERMISSION_DENIED
    assert "SIGHUP" in refused.value.details()
    assert "--admin-token-file" in refused.value.details()


def test_tokens_never_travel_in_clear_text(tiny_bundle: Path, tmp_path: Path) -> None:
    """Beyond loopback tokens need TLS, also where --insecure was given."""
    path = write(tmp_path / "tokens", EMBED)
    listen = "0.0.0.0:0"
    done = serve("--bundle", str(tiny_bundle), "--listen", listen, "--insecure", "--token-file", str(path))
    assert_refused(done, "unencrypted", "--tls-cert", code=2)


def test_empty_token_file_is_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    """A file that was forgotten to fill lets nobody in by surprise: the server does not start."""
    path = write(tmp_path / "tokens", "# to do\n")
    assert_refused(serve("--bundle", str(tiny_bundle), "--token-file", str(path)), "holds no token", code=2)


def test_socket_is_its_owners(start_worker: Callable[..., Any], tiny_bundle: Path, tmp_path: Path) -> None:
    """No other user can dial a Unix socket: its file has the mode 0600."""
    start_worker(tiny_bundle, listen=f"unix:{tmp_path}/s")
    assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o600
