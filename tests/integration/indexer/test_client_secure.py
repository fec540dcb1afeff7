"""The client and the commands with pools that ask for TLS, a certificate and a token."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from indexer.client import Client, NameConfig, Status, TlsConfig
from indexer.errors import AwayError, PoolError
from tests.integration.certificates import Authority

StartWorker = Callable[..., Any]
FIRST, SECOND = "first-token-of-some-length-01", "second-token-of-some-length-02"


def _write(path: Path, token: str) -> Path:
    """Writes a token file whole at once, readable by its owner only."""
    new = path.with_suffix(".new")
    new.write_text(f"{token}\n")
    new.chmod(0o600)
    return new.replace(path)


class _Guarded:
    """A server that asks for everything, and what opens it."""

    def __init__(self, bundle: Path, start_worker: StartWorker, folder: Path) -> None:
        authority = Authority(folder / "pki")
        server, me = authority.sign("server"), authority.sign("me")
        self.tls = TlsConfig(authority.pair.cert, me.cert, me.key)
        self.server_token = _write(folder / "server-token", FIRST)
        self.token = _write(folder / "token", FIRST)
        self.address = start_worker(
            bundle,
            *("--processes", "1", "--tls-cert", str(server.cert), "--tls-key", str(server.key)),
            *("--tls-client-ca", str(authority.pair.cert), "--token-file", str(self.server_token)),
        ).address


@pytest.fixture
def guarded(trap_bundle: Path, start_worker: StartWorker, tmp_path: Path) -> _Guarded:
    """A server with TLS, client certificates and a token."""
    return _Guarded(trap_bundle, start_worker, tmp_path)


def test_all_calls_work_through_tls_with_a_token(guarded: _Guarded) -> None:
    """Queries, documents and statistics alike; a token renewed in its file is used for the next call."""
    with Client(guarded.address, tls=guarded.tls, token=guarded.token) as client:
        assert client.embed_query("w1").vectors.shape == (1, 8)
        assert [document.ok for document in client.embed_documents(["w1", "w2"])] == [True, True]
        (counted,) = client.statistics().values()
        assert counted.queries.texts["ok"] == 1
        assert counted.documents.texts["ok"] == 2
        assert counted.queries.run_seconds.count == counted.queries.runs == 1
        assert [process.state for process in counted.processes]
        _write(guarded.token, SECOND)
        with pytest.raises(PoolError) as caught:
            client.embed_query("w1")
        assert caught.value.code == Status.UNAUTHENTICATED
        assert SECOND not in str(caught.value)


def test_whoever_cannot_be_known_is_refused(guarded: _Guarded) -> None:
    """No token: UNAUTHENTICATED at once. No certificate, or no TLS: no connection, within the timeout."""
    with Client(guarded.address, tls=guarded.tls) as client, pytest.raises(PoolError) as caught:
        client.embed_query("w1")
    assert caught.value.code == Status.UNAUTHENTICATED
    assert not isinstance(caught.value, AwayError)
    for tls in (TlsConfig(guarded.tls.ca), None):
        with (
            Client(guarded.address, tls=tls, token=guarded.token) as client,
            pytest.raises(AwayError, match=guarded.address),
        ):
            client.embed_query("w1", timeout=1.0)


def test_a_certificate_is_that_of_the_name(
    trap_bundle: Path, start_worker: StartWorker, tmp_path: Path
) -> None:
    """Behind a name a pool is known by the name, not by an address that its certificate cannot bear."""
    authority = Authority(tmp_path / "pki")
    pair, tls = authority.sign("server"), TlsConfig(authority.pair.cert)
    serve = ("--processes", "1", "--tls-cert", str(pair.cert), "--tls-key", str(pair.key))
    address = start_worker(trap_bundle, *serve, listen="127.0.0.2:0").address
    names = NameConfig(resolve=lambda host, port: [address])
    with Client("dns:///localhost:1", tls=tls, names=names) as client:
        assert client.embed_query("w1").target == address
        assert [document.ok for document in client.embed_documents(["w1", "w2"])] == [True, True]
    for target in ("dns:///elsewhere.test:1", address):
        with Client(target, tls=tls, names=names) as client, pytest.raises(AwayError):
            client.embed_query("w1", timeout=1.0)


def test_the_commands_use_it_for_all_their_calls(guarded: _Guarded, indexer: Any, tmp_path: Path) -> None:
    """run, search and verify reach a guarded pool with the options, and not without."""
    corpus, index = tmp_path / "corpus.parquet", tmp_path / "index"
    pq.write_table(pa.table({"doc_id": ["a", "b"], "text": ["w1 w2", "w3"]}), corpus)
    access = ["--worker", guarded.address, "--tls-ca", guarded.tls.ca, "--tls-cert", guarded.tls.cert]
    access += ["--tls-key", guarded.tls.key, "--token-file", guarded.token]
    run = ["run", "--input", corpus, "--output", index, "--text-columns", "text"]
    indexer.run(*run, *access)
    found = indexer.run("search", "--index", index, *access, "-k", "2", "w3").stdout
    assert len(found.splitlines()) == 2
    assert "FAIL" not in indexer.run("verify", "--index", index, *access).stdout
    refused = indexer.run("search", "--index", index, *access[:-2], "w3", code=1).stderr
    assert "UNAUTHENTICATED" in refused
    wrong = indexer.run(*run, "--bundle", tmp_path, "--token-file", guarded.token, code=2).stderr
    assert "are for --worker" in wrong
    half = indexer.run(*run, *access[:6], code=2).stderr
    assert "a client certificate needs its key" in half
