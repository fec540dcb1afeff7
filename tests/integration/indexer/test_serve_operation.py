"""How a search server is run: secured, drained, without its pool, beside an index that changes."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from build_models.quality.docstrings import Docstring
from embedpool.v1 import search_service_pb2 as pb
from tests.integration.certificates import Authority
from tests.integration.indexer.conftest import Indexer
from tests.integration.indexer.serving import (
    CALL_SECONDS,
    END_SECONDS,
    Caller,
    SearchServer,
    packed,
    search_server,
)

StartWorker = Callable[..., Any]
TOKEN, OTHER = "a-token-of-some-length-0001", "a-token-of-some-length-0002"
WAIT_SECONDS = 40.0


def _until(happened: Callable[[], bool]) -> None:
    """Asks again and again, until it happened; fails after a while."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not happened():
        assert time.monotonic() < deadline, "it did not happen in time"


def _write(path: Path, docstrings: list[Docstring]) -> Path:
    names, texts = ([one.qualified_name for one in docstrings], [one.text for one in docstrings])
    pq.write_table(pa.table({"doc_id": names, "text": texts}), path)
    return path


@pytest.fixture(scope="module")
def pool(tiny_bundle: Path, start_shared_worker: StartWorker) -> str:
    """Address of a pool that stays."""
    return str(start_shared_worker(tiny_bundle, "--processes", "1").address)


@pytest.fixture(scope="module")
def index(some_docstrings: list[Docstring], pool: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of 100 docstrings that no test changes."""
    folder = tmp_path_factory.mktemp("operated")
    path = _write(folder / "a.parquet", some_docstrings[:100])
    command = ("run", "--input", path, "--output", folder / "index", "--worker", pool)
    Indexer().run(*command, "--text-columns", "text")
    return folder / "index"


@contextlib.contextmanager
def _calling(server: SearchServer, **options: Any) -> Iterator[Caller]:
    caller = Caller(server.address, **options)
    try:
        yield caller
    finally:
        caller.close()


def _token_file(path: Path, *lines: str) -> Path:
    """Writes a token file whole at once, readable by its owner only."""
    new = path.with_suffix(".new")
    new.write_text("".join(f"{line}\n" for line in lines))
    new.chmod(0o600)
    return new.replace(path)


def test_only_who_shows_a_token_searches_and_all_is_encrypted(index: Path, pool: str, tmp_path: Path) -> None:
    """No token or a wrong one: UNAUTHENTICATED; health is open; a token renewed in its file counts."""
    authority = Authority(tmp_path / "pki")
    pair = authority.sign("server")
    tokens = _token_file(tmp_path / "tokens", "# who may search", f"someone {TOKEN}")
    files = ("--tls-cert", pair.cert, "--tls-key", pair.key, "--token-file", tokens)
    credentials = grpc.ssl_channel_credentials(authority.pair.cert.read_bytes())
    request = pb.SearchRequest(texts=["few"], k=1)
    with search_server(tmp_path, "--index", index, "--worker", pool, *files) as server:
        with _calling(server, credentials=credentials, token=TOKEN) as caller:
            assert caller.search(request).results[0].hits
            assert caller.index().documents == 100
            _token_file(tokens, OTHER)
            _until(lambda: caller.status(request) == "UNAUTHENTICATED")
        with _calling(server, credentials=credentials) as caller:
            status, message = caller.failure(request)
            assert status == "UNAUTHENTICATED"
            assert "no token came" in message
        with _calling(server, credentials=credentials, token=OTHER) as caller:
            assert caller.search(request).results[0].hits
        with _calling(server, token=OTHER) as caller:
            assert caller.failure(request, seconds=3)[0] in ("UNAVAILABLE", "DEADLINE_EXCEEDED")
        with grpc.secure_channel(server.address, credentials) as channel:
            check = health_pb2_grpc.HealthStub(channel).Check
            assert check(health_pb2.HealthCheckRequest(), timeout=CALL_SECONDS).status == 1
        log = server.log.read_text()
        assert server.terminate() == 0
    assert TOKEN not in log
    assert OTHER not in log


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--listen", "0.0.0.0:0"], 2, "can be dialled from other machines, and would be unencrypted"),
        (["--listen", "0.0.0.0:0", "--token-file", "{token}"], 2, "tokens would travel unencrypted"),
        (["--listen", "nowhere"], 1, "neither HOST:PORT nor unix:PATH"),
        (["--tls-cert", "{token}"], 2, "--tls-cert is given without --tls-key"),
        (["--tls-cert", "{token}", "--tls-key", "{token}"], 2, "no certificate and its key in PEM"),
        (["--token-file", "{empty}"], 2, "holds no token"),
        (["--max-k", "0"], 2, "--max-k is 0, wanted at least 1"),
        (["--pool-token-file", "{words}"], 2, "holds no token"),
    ],
)
def test_what_would_be_unsafe_or_cannot_be_is_refused_at_the_start(
    options: list[str], code: int, words: str, index: Path, pool: str, indexer: Any, tmp_path: Path
) -> None:
    """One line says what is wrong, before anything is served."""
    lines = {"token": TOKEN, "empty": "#", "words": "two words"}
    files = {name: _token_file(tmp_path / name, line) for name, line in lines.items()}
    arguments = [option.format(**files) for option in options]
    done = indexer.run("serve", "--index", index, "--worker", pool, *arguments, code=code)
    assert words in done.stderr
    assert "ready" not in done.stdout


def test_an_address_that_is_taken_is_refused(index: Path, pool: str, indexer: Any, tmp_path: Path) -> None:
    """A second server on the port of a living one would take half of its callers; on its socket all."""
    with search_server(tmp_path, "--index", index, "--worker", pool) as server:
        second = ("serve", "--index", index, "--worker", pool, "--listen")
        assert "cannot listen on" in indexer.run(*second, server.address, code=1).stderr
    socket = f"unix:{tmp_path}/s.sock"
    with search_server(tmp_path, "--index", index, "--worker", pool, "--listen", socket) as server:
        assert server.address == socket
        assert (tmp_path / "s.sock").stat().st_mode & 0o077 == 0
        assert "a server listens there" in indexer.run(*second, socket, code=1).stderr
        with _calling(server) as caller:
            assert caller.index().documents == 100


def test_a_pool_of_another_model_is_refused(
    index: Path, trap_bundle: Path, indexer: Any, start_worker: StartWorker
) -> None:
    """At the start, naming both models."""
    other = start_worker(trap_bundle, "--processes", "1").address
    done = indexer.run("serve", "--index", index, "--worker", other, "--listen", "127.0.0.1:0", code=1)
    assert "holds vectors of model" in done.stderr


def test_searches_survive_a_pool_that_dies(
    index: Path, tiny_bundle: Path, start_worker: StartWorker, tmp_path: Path
) -> None:
    """Texts are UNAVAILABLE while the pool is away, vectors are searched; with the pool texts come back."""
    worker = start_worker(tiny_bundle, "--processes", "1", listen=f"unix:{tmp_path}/pool.sock")
    text = pb.SearchRequest(texts=["few"], k=1)
    vector = pb.SearchRequest(vectors=packed(np.ones((1, 32))), k=1)
    arguments = ("--index", index, "--worker", worker.address, "--pool-seconds", "0.5")
    with search_server(tmp_path, *arguments) as server, _calling(server) as caller:
        assert caller.search(text).results[0].hits
        for pid in (*worker.child_pids(), worker.process.pid):
            os.kill(pid, signal.SIGKILL)
        worker.process.wait(END_SECONDS)
        status, message = caller.failure(text)
        assert status == "UNAVAILABLE"
        assert worker.address in message
        assert caller.failure(text, seconds=0.4)[0] in ("UNAVAILABLE", "DEADLINE_EXCEEDED")
        assert caller.search(vector).results[0].hits
        (tmp_path / "pool.sock").unlink(missing_ok=True)
        start_worker(tiny_bundle, "--processes", "1", listen=worker.address)
        _until(lambda: caller.status(text) == "OK")


def test_a_server_may_start_before_its_pool(
    index: Path, tiny_bundle: Path, start_worker: StartWorker, tmp_path: Path
) -> None:
    """It says so in its log, searches vectors at once, and texts as soon as the pool is there."""
    address = f"unix:{tmp_path}/pool.sock"
    arguments = ("--index", index, "--worker", address, "--pool-seconds", "0.5")
    with search_server(tmp_path, *arguments) as server, _calling(server) as caller:
        assert "no pool" in server.log.read_text()
        assert caller.search(pb.SearchRequest(vectors=packed(np.ones((1, 32))), k=1)).results[0].hits
        start_worker(tiny_bundle, "--processes", "1", listen=address)
        _until(lambda: caller.status(pb.SearchRequest(texts=["few"], k=1)) == "OK")


def test_it_drains_and_ends_well(index: Path, pool: str, tmp_path: Path) -> None:
    """SIGTERM amid searches: each accepted one is answered, others are UNAVAILABLE, the exit code is 0."""
    with (
        search_server(tmp_path, "--index", index, "--worker", pool) as server,
        ThreadPoolExecutor(8) as threads,
    ):
        with _calling(server) as caller:
            first = threading.Event()

            def search() -> list[str]:
                codes: list[str] = []
                while not codes or codes[-1] == "OK":
                    codes.append(caller.status(pb.SearchRequest(texts=["few", "many"], k=5)))
                    first.set()
                return codes

            callers = [threads.submit(search) for _ in range(8)]
            assert first.wait(CALL_SECONDS)
            assert server.terminate() == 0
            ends = {future.result(CALL_SECONDS)[-1] for future in callers}
        assert ends <= {"UNAVAILABLE", "CANCELLED"}
        assert "ended unanswered_calls=0" in server.log.read_text()


def test_a_private_pool_comes_and_goes_with_it(index: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    """--bundle starts a pool and ends it: nothing is left behind."""
    with search_server(tmp_path, "--index", index, "--bundle", tiny_bundle) as server:
        with _calling(server) as caller:
            assert caller.search(pb.SearchRequest(texts=["few"], k=1)).results[0].hits
        listed = subprocess.run(
            ["/bin/ps", "-o", "pid=", "--ppid", str(server.process.pid)],
            capture_output=True,
            text=True,
            check=True,
        )
        children = [int(pid) for pid in listed.stdout.split()]
        assert children
        assert server.terminate() == 0
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]


def test_the_example_shows_what_is_found(index: Path, pool: str, tmp_path: Path) -> None:
    """`examples/search.py` prints hits, with nothing but the generated stub."""
    script = Path(__file__).parents[3] / "examples" / "search.py"
    with search_server(tmp_path, "--index", index, "--worker", pool) as server:
        done = subprocess.run(
            [sys.executable, script, server.address, "open a socket"],
            capture_output=True,
            text=True,
            timeout=CALL_SECONDS,
            check=True,
        )
    assert len(done.stdout.splitlines()) == 10
