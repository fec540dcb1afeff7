"""`run --engine ray` makes the bytes of `--engine local`, whatever actors, nodes and drivers end."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from build_models.quality.docstrings import Docstring
from indexer.client import Client

ROWS, UNIT_ROWS, OPEN_UNITS = 2000, 20, 10  # the last: units that an actor has at most
READY_SECONDS = 250.0  # Ray starts a dozen processes, slowly where others compute
RUN_SECONDS = 250.0

pytestmark = pytest.mark.timeout(900)


class Cluster:
    """Two nodes of one CPU each; those who know the address may use it."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        self.process = process
        self.address = process.stdout.readline().strip()

    def remove_a_node(self) -> None:
        """Switches the second node off."""
        assert self.process.stdin is not None
        self.process.stdin.write("remove\n")
        self.process.stdin.flush()


@contextlib.contextmanager
def _cluster(log: Path) -> Iterator[Cluster]:
    command = [sys.executable, str(Path(__file__).with_name("ray_nodes.py")), "1", "1"]
    with log.open("w") as stderr:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True
        )
    try:
        made = Cluster(process)
        assert made.address, log.read_text()
        yield made
    finally:
        process.communicate(timeout=READY_SECONDS)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster that the tests of this file share; the last of them takes a node away."""
    with _cluster(tmp_path_factory.mktemp("cluster") / "log") as made:
        yield made


class Road:
    """A corpus with rejects, a pool, and the index that a local run makes of them."""

    def __init__(self, folder: Path, address: str, bundle: Path, indexer: Any) -> None:
        self.folder, self.address, self.bundle, self.indexer = folder, address, bundle, indexer
        self.command: list[str | Path] = [
            "run", "--input", folder / "corpus.parquet", "--unit-rows", str(UNIT_ROWS), "--on-error", "skip",
        ]  # fmt: skip

    def start(self, name: str, cluster: Cluster, *arguments: str | Path) -> "subprocess.Popen[str]":
        """Starts a run by two actors; it calls the pool unless the arguments name a bundle."""
        pool = () if "--bundle" in arguments else ("--worker", self.address)
        ray = ("--engine", "ray", "--ray-address", cluster.address)
        process = self.indexer.start(*self.command, *pool, "--output", self.folder / name, *ray, *arguments)
        assert isinstance(process, subprocess.Popen)
        return process

    def texts(self) -> int:
        """Returns how many texts the pool has seen."""
        with Client(self.address) as client:
            return sum(client.statistics()[self.address].documents.texts.values())

    def receipts(self, name: str) -> int:
        """Returns how many units an index has."""
        return len(list((self.folder / name / "units").glob("*.receipt.json")))

    def holders(self, name: str, besides: int) -> list[int]:
        """Returns the pids of the processes that hold an index, but for one."""
        found = [int(path.name.rpartition("-")[2]) for path in (self.folder / name / ".holders").glob("*-*")]
        return sorted(pid for pid in found if pid != besides)


@pytest.fixture(scope="module")
def corpus(some_docstrings: list[Docstring], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 2,000 rows of different texts; some are empty, one id stands three times."""
    folder = tmp_path_factory.mktemp("ray")
    texts = [f"{number} {some_docstrings[number % 500].text}" for number in range(ROWS)]
    for row in (3, 100, 1999):
        texts[row] = ""
    ids = [f"d{number}" for number in range(ROWS)]
    ids[700] = ids[1500] = ids[50]
    table = pa.table({"doc_id": ids, "title": [""] * ROWS, "text": texts})
    pq.write_table(table, folder / "corpus.parquet", row_group_size=170)
    return folder


@pytest.fixture(scope="module")
def expected(
    corpus: Path, tiny_bundle: Path, start_shared_worker: Callable[..., Any]
) -> tuple[str, dict[str, bytes]]:
    """The address of a pool, and the files that a local run makes with it."""
    from tests.integration.indexer.conftest import Indexer

    address = start_shared_worker(tiny_bundle, "--processes", "1").address
    runner = Indexer()
    road = Road(corpus, address, tiny_bundle, runner)
    runner.run(*road.command, "--worker", address, "--output", corpus / "local")
    return address, runner.tree(corpus / "local")


@pytest.fixture
def road(corpus: Path, tiny_bundle: Path, expected: tuple[str, dict[str, bytes]], indexer: Any) -> Road:
    """The corpus and the pool, with an indexer whose processes end with the test."""
    return Road(corpus, expected[0], tiny_bundle, indexer)


def _until(found: Callable[[], Any], what: str) -> Any:
    """Returns what a look finds, once it is something."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if value := found():
            return value
        time.sleep(0.005)
    raise AssertionError(f"{what} did not happen")


def _end(process: "subprocess.Popen[str]", code: int = 0) -> tuple[str, str]:
    out, err = process.communicate(timeout=RUN_SECONDS)
    assert process.returncode == code, err
    assert "Traceback" not in err, err
    return out, err


def _is_gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_an_actor_is_killed_in_the_middle(
    road: Road, cluster: Cluster, expected: tuple[str, dict[str, bytes]]
) -> None:
    """SIGKILL to one of two actors costs no more than its units in work: the bytes are a local run's."""
    before = road.texts()
    run = road.start("killed", cluster)
    actors = _until(lambda: pids if len(pids := road.holders("killed", run.pid)) == 2 else None, "two actors")
    _until(lambda: road.receipts("killed"), "a commit")
    os.kill(actors[0], signal.SIGKILL)
    _, err = _end(run)
    assert "lost its actor: its process ended" in err
    assert road.indexer.tree(road.folder / "killed") == expected[1]
    # Duplicates and empty rows are never sent.
    assert ROWS - 5 <= road.texts() - before <= ROWS - 5 + OPEN_UNITS * UNIT_ROWS


def test_pools_of_actors_end_with_them(
    road: Road, cluster: Cluster, expected: tuple[str, dict[str, bytes]]
) -> None:
    """With --bundle each actor has a pool of its own, on its CPUs, that SIGKILL to the actor ends, too."""
    run = road.start("pools", cluster, "--bundle", road.bundle, "--ray-actors", "2", "--ray-cpus", "1")
    actors = _until(lambda: pids if len(pids := road.holders("pools", run.pid)) == 2 else None, "two actors")
    pools = [child for pid in actors for child in psutil.Process(pid).children(recursive=True)]
    assert len([pool for pool in pools if "serve" in pool.cmdline()]) >= 2
    os.kill(actors[1], signal.SIGKILL)
    _end(run)
    assert road.indexer.tree(road.folder / "pools") == expected[1]
    _until(lambda: all(_is_gone(pool.pid) for pool in pools), "the end of the pools")


def test_a_local_run_goes_on_after_a_killed_driver(
    road: Road, cluster: Cluster, expected: tuple[str, dict[str, bytes]]
) -> None:
    """Kill -9 of the driver ends its actors; a local run beside it does the rest, with the same bytes."""
    run = road.start("driver", cluster)
    _until(lambda: road.receipts("driver"), "a commit")
    beside = road.indexer.start(*road.command, "--worker", road.address, "--output", road.folder / "driver")
    actors = road.holders("driver", run.pid)
    run.kill()
    _end(beside)
    assert road.indexer.tree(road.folder / "driver") == expected[1]
    _until(lambda: all(_is_gone(pid) for pid in actors), "the end of the actors")


def test_a_ray_run_beside_a_local_one(
    road: Road, cluster: Cluster, expected: tuple[str, dict[str, bytes]]
) -> None:
    """Both work on one index; each row is sent once, both end well, with the bytes of one alone."""
    before = road.texts()
    ray = road.start("beside", cluster)
    _until(lambda: road.receipts("beside"), "a commit")
    local = road.indexer.start(*road.command, "--worker", road.address, "--output", road.folder / "beside")
    for process in (ray, local):
        _end(process)
    assert road.indexer.tree(road.folder / "beside") == expected[1]
    assert road.texts() - before == ROWS - 5


def test_what_no_actor_can_do_is_one_line(road: Road, cluster: Cluster, tmp_path: Path) -> None:
    """Where every actor fails for the same reason, that is the error, with exit code 1."""
    empty = tmp_path / "no-bundle"
    empty.mkdir()
    run = road.start("bad", cluster, "--bundle", empty, "--ray-cpus", "1")
    _, err = _end(run, 1)
    assert err.splitlines()[-1].startswith(f"error: the pool for bundle {empty} did not start: ")
    away = ("run", "--input", road.folder / "corpus.parquet", "--worker", "127.0.0.1:9", "--on-error", "skip")
    ray = ("--engine", "ray", "--ray-address", cluster.address, "--retry-seconds", "1")
    err = road.indexer.run(*away, *ray, "--output", road.folder / "bad", code=1).stderr
    assert "127.0.0.1:9" in err.splitlines()[-1]


def test_a_node_is_switched_off(road: Road, cluster: Cluster, expected: tuple[str, dict[str, bytes]]) -> None:
    """The other node does what the first had, and the bytes are a local run's. Last: the node stays away."""
    run = road.start("node", cluster)
    _until(lambda: len(road.holders("node", run.pid)) == 2, "two actors")
    _until(lambda: road.receipts("node"), "a commit")
    cluster.remove_a_node()
    _, err = _end(run)
    assert "lost its actor" in err
    assert road.indexer.tree(road.folder / "node") == expected[1]


def test_a_cluster_of_its_own_ends_with_the_run(
    road: Road, expected: tuple[str, dict[str, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGTERM finishes commits that began; no process, file or word of the cluster of its own is left."""
    monkeypatch.setenv("RAY_UNDER_TEST", str(road.folder))
    folders = set(Path("/tmp").glob("embedpool-ray-*"))  # noqa: S108 - where the command makes them
    command = (*road.command, "--worker", road.address, "--output", road.folder / "own")
    run = road.indexer.start(*command, "--engine", "ray", "--ray-actors", "2")
    _until(lambda: road.receipts("own"), "a commit")
    run.send_signal(signal.SIGTERM)
    _, err = _end(run, 143)
    assert err.splitlines()[-1] == "error: stopped; nothing committed is lost: run the same command to go on"
    assert "ray" not in err.replace(str(road.folder), "").lower()
    left = road.indexer.tree(road.folder / "own")
    assert not [name for name in left if name.endswith(".tmp")]
    assert {name: expected[1][name] for name in left} == left
    assert set(Path("/tmp").glob("embedpool-ray-*")) <= folders  # noqa: S108
    _until(lambda: not list(_marked(str(road.folder))), "the end of its processes")


def _marked(mark: str) -> Iterator[int]:
    """Yields the ids of processes with our mark in their environment, and of what they started."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("RAY_UNDER_TEST") == mark:
                yield process.pid
