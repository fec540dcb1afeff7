"""A search server beside an index that is updated and compacted: nobody notices but by the hits."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from build_models.quality.docstrings import Docstring
from embedpool.v1 import search_service_pb2 as pb
from tests.integration.indexer.serving import CALL_SECONDS, Caller, SearchServer, search_server

StartWorker = Callable[..., Any]
FIRST, MORE = 120, 60
CALLERS = 6
WAIT_SECONDS = 30.0


def _write(path: Path, docstrings: list[Docstring], **columns: list[Any]) -> Path:
    names, texts = ([one.qualified_name for one in docstrings], [one.text for one in docstrings])
    pq.write_table(pa.table({"doc_id": names, "text": texts, **columns}), path)
    return path


class _Callers:
    """Threads that search without a pause, until they are stopped; any failure is kept."""

    def __init__(self, server: SearchServer, request: pb.SearchRequest) -> None:
        self._caller = Caller(server.address)
        self._request = request
        self._stop = threading.Event()
        self._threads = ThreadPoolExecutor(CALLERS)
        self._running = [self._threads.submit(self._search) for _ in range(CALLERS)]
        self.seen: list[tuple[str, frozenset[str]]] = []

    def _search(self) -> int:
        count = 0
        while not self._stop.is_set():
            answer = self._caller.search(self._request)
            (hits,) = answer.results
            self.seen.append((answer.generation, frozenset(hit.doc_id for hit in hits.hits)))
            count += 1
        return count

    def wait_for(self, generation: str) -> None:
        """Waits until searches are answered by a generation."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not self.seen or self.seen[-1][0] != generation:
            assert time.monotonic() < deadline, f"{generation} does not answer"
            for one in self._running:
                if one.done():
                    one.result()

    def stop(self) -> int:
        """Stops them and returns how many searches there were; raises what any of them raised."""
        self._stop.set()
        count = sum(one.result(CALL_SECONDS) for one in self._running)
        self._threads.shutdown()
        self._caller.close()
        return count


def test_no_search_fails_while_the_index_changes(
    some_docstrings: list[Docstring],
    tiny_bundle: Path,
    start_worker: StartWorker,
    indexer: Any,
    tmp_path: Path,
) -> None:
    """Added, deleted, compacted: each is found out soon, and hits are those of one whole generation.

    Hundreds of searches with columns and filters go on meanwhile, of mapped files that are deleted, too, and
    none fails.
    """
    pool = start_worker(tiny_bundle, "--processes", "1").address
    folder, index = tmp_path / "corpus", tmp_path / "index"
    folder.mkdir()
    first, more = some_docstrings[:FIRST], some_docstrings[FIRST : FIRST + MORE]
    run = ("run", "--input", folder / "*.parquet", "--output", index, "--worker", pool, "--unit-rows", "32")
    _write(folder / "a.parquet", first, kind=["old"] * FIRST)
    indexer.run(*run, "--text-columns", "text")
    names = frozenset(one.qualified_name for one in first)
    added = frozenset(one.qualified_name for one in more)
    deleted = frozenset(sorted(names)[:20])
    request = pb.SearchRequest(texts=["words"], k=500, columns=["kind"], filter="kind in ('old', 'new')")
    with search_server(tmp_path, "--index", index, "--worker", pool, "--mmap") as server:
        callers = _Callers(server, request)
        callers.wait_for("000001")
        _write(folder / "b.parquet", more, kind=["new"] * MORE)
        indexer.run(*run, "--text-columns", "text")
        callers.wait_for("000002")
        indexer.run("delete", "--index", index, "--ids", ",".join(deleted))
        callers.wait_for("000003")
        indexer.run("compact", "--index", index)
        callers.wait_for("000004")
        count = callers.stop()
        log = server.log.read_text()
        assert server.terminate() == 0
    assert count > 100
    found = {
        "000001": {names},
        "000002": {names | added},
        "000003": {(names | added) - deleted},
        "000004": {(names | added) - deleted},
    }
    assert {
        generation: {ids for at, ids in callers.seen if at == generation} for generation in found
    } == found
    assert "Traceback" not in log
    assert "cannot take up" not in log


def test_another_model_is_taken_up_with_its_pool(
    some_docstrings: list[Docstring],
    tiny_bundle: Path,
    tiny_fp32_bundle: Path,
    start_worker: StartWorker,
    indexer: Any,
    tmp_path: Path,
) -> None:
    """`run --new-model` swaps the index; texts wait for a pool of the new model and then find its vectors."""
    old = start_worker(tiny_bundle, "--processes", "1", listen=f"unix:{tmp_path}/old.sock")
    path, index = _write(tmp_path / "a.parquet", some_docstrings[:50]), tmp_path / "index"
    run = ("run", "--input", path, "--output", index, "--text-columns", "text", "--worker")
    indexer.run(*run, old.address)
    arguments = ("--index", index, "--worker", old.address, "--pool-seconds", "0.5")
    with search_server(tmp_path, *arguments) as server:
        caller, request = Caller(server.address), pb.SearchRequest(texts=["words"], k=1)
        before = caller.search(request).model_fingerprint
        new = start_worker(tiny_fp32_bundle, "--processes", "1")
        indexer.run(*run, new.address, "--new-model")
        deadline = time.monotonic() + WAIT_SECONDS
        while caller.index().model_fingerprint == before:
            assert time.monotonic() < deadline
        status, message = caller.failure(request)
        assert status == "FAILED_PRECONDITION"
        assert "holds vectors of model" in message
        assert old.terminate() == 0
        start_worker(tiny_fp32_bundle, "--processes", "1", listen=old.address)
        while caller.status(request) != "OK":
            assert time.monotonic() < deadline
        after = caller.search(request)
        assert after.model_fingerprint not in ("", before)
        caller.close()
