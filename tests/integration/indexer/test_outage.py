"""Pools that go away: nothing is lost, nothing is embedded twice into the index."""

import os
import select
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from build_models.quality.docstrings import Docstring

StartWorker = Callable[..., Any]
COUNT = 3000


@pytest.fixture
def corpus(some_docstrings: list[Docstring], tmp_path: Path) -> Path:
    """3,000 documents: some seconds of work."""
    texts = [f"{n} {some_docstrings[n % len(some_docstrings)].text}" for n in range(COUNT)]
    path = tmp_path / "corpus.parquet"
    pq.write_table(pa.table({"doc_id": [f"d{n}" for n in range(COUNT)], "text": texts}), path)
    return path


def _start(indexer: Any, corpus: Path, index: Path, workers: str, *options: str) -> Any:
    """Starts a run that tells its steps, and returns when its first unit is committed."""
    run = ["run", "--input", corpus, "--output", index, "--worker", workers, "--text-columns", "text"]
    process = indexer.start(*run, "--unit-rows", "100", *options, fault="tell 0")
    next(line for line in process.stdout if "receipt.json" in line)
    return process


def _kill(server: Any) -> None:
    """Kills a server as the kernel would for want of memory, and waits until its port is free."""
    children = server.child_pids()
    server.process.send_signal(signal.SIGKILL)
    server.process.wait(30)
    for child in children:
        try:
            os.kill(child, signal.SIGKILL)
        except ProcessLookupError:
            continue  # it ended with its parent


def _documents(index: Path) -> list[str]:
    parts = sorted((index / "units").glob("*.parquet"))
    return [doc_id for part in parts for doc_id in pq.read_table(part)["doc_id"].to_pylist()]


def test_a_pool_that_comes_back_gets_what_it_owes(
    corpus: Path, tiny_bundle: Path, start_worker: StartWorker, indexer: Any, tmp_path: Path
) -> None:
    """The pool is killed in the middle and started again: the run completes, each document once."""
    server = start_worker(tiny_bundle)
    process = _start(indexer, corpus, tmp_path / "index", server.address)
    _kill(server)
    start_worker(tiny_bundle, listen=server.address)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "trying again for up to 120 s" in err
    assert f"worker {server.address} is back" in err
    assert _documents(tmp_path / "index") == [f"d{n}" for n in range(COUNT)]
    indexer.run("verify", "--index", tmp_path / "index", "--worker", server.address)


def test_the_batches_of_a_dead_pool_go_to_the_other(
    corpus: Path, tiny_bundle: Path, start_worker: StartWorker, indexer: Any, tmp_path: Path
) -> None:
    """Of two pools one is killed for good: the other does its share, and the run ends well."""
    dead, alive = (start_worker(tiny_bundle, "--processes", "1") for _ in range(2))
    workers = f"{dead.address},{alive.address}"
    process = _start(indexer, corpus, tmp_path / "index", workers, "--retry-seconds", "1")
    _kill(dead)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert f"{dead.address} is given up; the other workers go on" in err
    assert _documents(tmp_path / "index") == [f"d{n}" for n in range(COUNT)]
    indexer.run("verify", "--index", tmp_path / "index", "--worker", alive.address)


def test_a_pool_away_for_too_long_ends_the_run(
    corpus: Path, tiny_bundle: Path, start_worker: StartWorker, indexer: Any, tmp_path: Path
) -> None:
    """After --retry-seconds the run gives up in one line; what was committed counts when it goes on."""
    server = start_worker(tiny_bundle)
    process = _start(indexer, corpus, tmp_path / "index", server.address, "--retry-seconds", "1")
    _kill(server)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1, err
    last = err.splitlines()[-1]
    assert last.startswith("error: gave up after 1 s without an answer (--retry-seconds): ")
    assert last.endswith("run the same command to go on")
    start_worker(tiny_bundle, listen=server.address)
    run = [
        "run",
        "--input",
        corpus,
        "--output",
        tmp_path / "index",
        "--text-columns",
        "text",
        "--unit-rows",
        "100",
    ]
    done = indexer.run(*run, "--worker", server.address)
    assert "rows are committed already" in done.stderr
    assert _documents(tmp_path / "index") == [f"d{n}" for n in range(COUNT)]


def test_a_draining_pool_is_an_outage(
    corpus: Path, tiny_bundle: Path, start_worker: StartWorker, indexer: Any, tmp_path: Path
) -> None:
    """A pool that is stopped in order answers what it took, and its successor gets the rest."""
    server = start_worker(tiny_bundle)
    process = _start(indexer, corpus, tmp_path / "index", server.address)
    assert server.terminate() == 0
    start_worker(tiny_bundle, listen=server.address)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert _documents(tmp_path / "index") == [f"d{n}" for n in range(COUNT)]


def _child(process: Any) -> int:
    """Returns the pid of the pool that an indexer started."""
    (pool,) = [
        int(stat.parent.name)
        for stat in Path("/proc").glob("[0-9]*/stat")
        if stat.read_text().rpartition(")")[2].split()[1] == str(process.pid)
    ]
    return pool


def test_a_private_pool_that_is_killed_is_told(
    corpus: Path, tiny_bundle: Path, indexer: Any, tmp_path: Path
) -> None:
    """When the pool of a run's own is killed, the run says so instead of waiting for minutes."""
    run = [
        "run",
        "--input",
        corpus,
        "--output",
        tmp_path / "index",
        "--bundle",
        tiny_bundle,
        "--text-columns",
        "text",
    ]
    process = indexer.start(*run, "--unit-rows", "100", "--retry-seconds", "1", fault="tell 0")
    next(line for line in process.stdout if "receipt.json" in line)
    os.kill(_child(process), signal.SIGKILL)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1, err
    assert "the private pool ended (exit code -9)" in err.splitlines()[-1]


def test_a_search_takes_the_pool_that_is_there(
    corpus: Path, tiny_bundle: Path, start_worker: StartWorker, indexer: Any, tmp_path: Path
) -> None:
    """Of several pools the first that answers embeds the query."""
    address, index = start_worker(tiny_bundle, "--processes", "1").address, tmp_path / "index"
    run = ["run", "--input", corpus, "--output", index, "--text-columns", "text", "--limit", "20"]
    indexer.run(*run, "--worker", address)
    dead = f"unix:{tmp_path}/none.sock"
    done = indexer.run("search", "--index", index, "--worker", f"{dead},{address}", "-k", "2", "word")
    assert len(done.stdout.splitlines()) == 2
    assert f"cannot reach a worker at {dead}" in done.stderr


def test_a_private_pool_dies_with_its_indexer(
    corpus: Path, tiny_bundle: Path, indexer: Any, tmp_path: Path
) -> None:
    """An indexer that is killed leaves no pool behind: it ends at the end of its stdin."""
    run = [
        "run",
        "--input",
        corpus,
        "--output",
        tmp_path / "index",
        "--bundle",
        tiny_bundle,
        "--text-columns",
        "text",
    ]
    process = indexer.start(*run, "--unit-rows", "100", fault="tell 0")
    next(line for line in process.stdout if "receipt.json" in line)
    pool = _child(process)
    socket = Path(f"/proc/{pool}/cmdline").read_text().split("unix:")[1].split("\0")[0]
    ended = os.pidfd_open(pool)
    process.kill()
    process.communicate(timeout=30)
    try:
        assert select.select([ended], [], [], 60)[0], "the pool still runs"
    finally:
        os.close(ended)
        # Nobody was left to remove it.
        shutil.rmtree(Path(socket).parent)
