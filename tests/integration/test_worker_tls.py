"""TLS: encrypted, both sides shown, and certificates replaced while the server runs."""

import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from embedpool.v1 import embedding_service_pb2 as pb
from embedpool.v1 import embedding_service_pb2_grpc
from tests.integration.certificates import Authority, Pair

SECONDS = 30.0


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """An authority of this test's own."""
    return Authority(tmp_path / "authority")


@contextmanager
def stub_over_tls(
    address: str, ca: Path, client: Pair | None = None
) -> Iterator[embedding_service_pb2_grpc.EmbeddingServiceStub]:
    """Makes a client that trusts `ca` and shows the certificate `client`, on a connection of its own."""
    shown = (None, None) if client is None else (client.key.read_bytes(), client.cert.read_bytes())
    credentials = grpc.ssl_channel_credentials(ca.read_bytes(), *shown)
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.secure_channel(address, credentials, options) as channel:
        yield embedding_service_pb2_grpc.EmbeddingServiceStub(channel)


def shown_by(address: str, ca: Path) -> str:
    """Returns the common name of the certificate that the server shows in a new handshake."""
    host, _, port = address.rpartition(":")
    context = ssl.create_default_context(cafile=str(ca))
    context.set_alpn_protocols(["h2"])
    with (
        socket.create_connection((host, int(port)), SECONDS) as plain,
        context.wrap_socket(plain, server_hostname=host) as encrypted,
    ):
        certificate: Any = encrypted.getpeercert()
        return str(dict(part[0] for part in certificate["subject"])["commonName"])


def wait_for(happened: Callable[[], bool]) -> None:
    """Asks until it happened, with a deadline."""
    deadline = time.monotonic() + SECONDS
    while not happened():
        assert time.monotonic() < deadline, "it did not happen in time"


def replace(old: Pair, new: Pair) -> None:
    """Puts the files of a pair in the place of another's, each at once."""
    for source, target in ((new.cert, old.cert), (new.key, old.key)):
        copied = shutil.copy(source, target.with_suffix(".new"))
        Path(copied).replace(target)


def tls(pair: Pair) -> list[str]:
    """Returns the arguments of a server with this certificate."""
    return ["--tls-cert", str(pair.cert), "--tls-key", str(pair.key)]


def test_encrypted_beyond_loopback(
    start_worker: Callable[..., Any], tiny_bundle: Path, authority: Authority
) -> None:
    """With a certificate the server listens everywhere and embeds; a caller without TLS gets nowhere."""
    server = start_worker(tiny_bundle, *tls(authority.sign("one")), listen="0.0.0.0:0")
    address = f"127.0.0.1:{server.address.rpartition(':')[2]}"
    with stub_over_tls(address, authority.pair.cert) as stub:
        assert stub.EmbedQuery(pb.EmbedQueryRequest(texts=["hello"]), timeout=SECONDS).vectors.rows == 1
    with grpc.insecure_channel(address) as channel:
        plain = embedding_service_pb2_grpc.EmbeddingServiceStub(channel)
        with pytest.raises(grpc.RpcError) as refused:
            plain.GetModel(pb.GetModelRequest(), timeout=5)
    assert refused.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
    log = server.log.read_text()
    assert "unencrypted" not in log
    assert all(line.startswith("time=") for line in log.splitlines())  # gRPC's core is kept out of it


def test_certificate_is_rotated_without_a_restart(
    start_worker: Callable[..., Any], tiny_bundle: Path, authority: Authority
) -> None:
    """New files are served from the next handshake on; half a pair and nonsense only fill the log."""
    served, other = authority.sign("one"), authority.sign("two")
    server = start_worker(tiny_bundle, *tls(served))
    ca = authority.pair.cert
    assert shown_by(server.address, ca) == "one"

    broken = Pair(other.cert, authority.sign("three").key)  # no pair
    replace(served, broken)
    server.process.send_signal(signal.SIGHUP)
    wait_for(lambda: "rotation failed" in server.log.read_text())
    assert shown_by(server.address, ca) == "one"

    replace(served, other)
    wait_for(lambda: shown_by(server.address, ca) == "two")

    served.cert.write_text("nonsense")
    wait_for(lambda: shown_by(server.address, ca) == "two" and server.log.read_text().count("failed of") >= 2)
    with stub_over_tls(server.address, ca) as stub:
        assert stub.GetModel(pb.GetModelRequest(), timeout=SECONDS).processes >= 1
    assert "PRIVATE" not in server.log.read_text()


def test_clients_must_show_a_certificate(
    start_worker: Callable[..., Any], tiny_bundle: Path, authority: Authority, tmp_path: Path
) -> None:
    """With --tls-client-ca only callers whose certificate its authorities signed get through."""
    ours = Authority(tmp_path / "clients")
    server = start_worker(tiny_bundle, *tls(authority.sign("one")), "--tls-client-ca", str(ours.pair.cert))
    ca = authority.pair.cert
    with stub_over_tls(server.address, ca, ours.sign("client")) as stub:
        assert stub.GetModel(pb.GetModelRequest(), timeout=SECONDS).processes >= 1
    for stranger in (None, authority.sign("stranger")):
        with stub_over_tls(server.address, ca, stranger) as stub:
            with pytest.raises(grpc.RpcError) as refused:
                stub.GetModel(pb.GetModelRequest(), timeout=SECONDS)
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


def test_files_that_are_no_certificate(tiny_bundle: Path, authority: Authority, tmp_path: Path) -> None:
    """A server whose TLS cannot work does not start, and says which file is wrong."""
    one, two = authority.sign("one"), authority.sign("two")
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("nonsense")
    for arguments, words in (
        (tls(Pair(one.cert, two.key)), "are no certificate and its key"),
        (tls(Pair(nonsense, one.key)), "are no certificate and its key"),
        (tls(Pair(tmp_path / "missing.pem", one.key)), "cannot read the TLS certificate"),
        ([*tls(one), "--tls-client-ca", str(nonsense)], "holds no certificate in PEM"),
        (["--tls-cert", str(one.cert)], "is given without --tls-key"),
        ([*tls(one), "--listen", f"unix:{tmp_path}/s"], "needs no TLS"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "worker", "serve", "--bundle", str(tiny_bundle), *arguments],
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
        assert done.returncode == 2, done.stderr
        assert words in done.stderr.splitlines()[-1]
        assert done.stderr.splitlines()[-1].startswith("error: ")
