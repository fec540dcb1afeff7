"""The systems under test as processes that are loaded once and then measured in turns."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from indexer.client import Client
from tests.bench.environments import HOME
from tests.bench.peer_loop import texts_of

ENVIRONMENT = {"PYTHONPATH": ".", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
STOP_SECONDS = 60


class Child:
    """A process that answers one line of JSON for each line it is sent."""

    def __init__(self, name: str, *command: str) -> None:
        self.name = name
        self.command = command
        (HOME / "log").mkdir(parents=True, exist_ok=True)
        with (HOME / "log" / name.replace(" ", "-")).open("w") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, **ENVIRONMENT},
            )
        self.versions: dict[str, str] = self._read()["ready"]

    def ask(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Sends one job and waits for its result."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()
        return self._read()

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate(timeout=STOP_SECONDS)

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"error: {self.name} ended; it says why in {HOME / 'log'}")
        answer: dict[str, Any] = json.loads(line)
        return answer


class Peer:
    """A library at one setting: Parquet in, a flat FAISS index out."""

    def __init__(self, name: str, child: Child, setting: Mapping[str, Any]) -> None:
        self.name = name
        self._child = child
        self._setting = setting
        self._output = HOME / "out" / re.sub(r"[^a-z0-9]+", "-", name.lower())

    def documents_per_second(self, corpus: Path) -> float:
        """Measures one pass over the corpus."""
        answer = self._child.ask(
            {"input": str(corpus), "output": str(self._output), "setting": self._setting}
        )
        rate: float = answer["documents"] / answer["seconds"]
        return rate

    @contextmanager
    def fresh(self) -> Iterator["Peer"]:
        """Gives the same setting in a process of its own, started now."""
        child = Child(f"{self._child.name}-cold", *self._child.command)
        try:
            yield Peer(self.name, child, self._setting)
        finally:
            child.close()

    def vectors(self) -> NDArray[np.float32]:
        """Returns the vectors of the last pass, in the corpus' order."""
        loaded: NDArray[np.float32] = np.load(self._output / "vectors.npy")
        return loaded


class Pool:
    """A running pool of embedpool, measured by the indexer's command and through the wire alone."""

    name = "embedpool"

    def __init__(self, bundle: Path, *options: str) -> None:
        self.bundle = bundle
        (HOME / "log").mkdir(parents=True, exist_ok=True)
        with (HOME / "log" / "pool").open("w") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "worker", "serve", "--bundle", str(bundle)),
                    *("--listen", "127.0.0.1:0", "--stop-on-stdin-close", *options),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self.process.stdout is not None
        word, _, self.address = self.process.stdout.readline().strip().partition(" ")
        if word != "ready":
            raise SystemExit(f"error: the pool did not start; it says why in {HOME / 'log' / 'pool'}")
        self._output = HOME / "out" / "embedpool"

    def documents_per_second(self, corpus: Path) -> float:
        """Measures `python -m indexer run` from its start to its end: Python's own start is in it."""
        return index_rate(corpus, self._output, "--worker", self.address)

    def wire_documents_per_second(self, corpus: Path) -> float:
        """Measures a client that streams the texts: no Parquet, no FAISS, no start of Python."""
        _, texts = texts_of(corpus)
        with Client(self.address) as client:
            started = time.perf_counter()
            count = sum(document.ok for document in client.embed_documents(texts))
            return count / (time.perf_counter() - started)

    def vectors(self, corpus: Path) -> NDArray[np.float32]:
        """Returns the vectors of the last indexing, in the corpus' order."""
        rows: dict[str, NDArray[np.float32]] = {}
        for unit in sorted((self._output / "units").glob("*.parquet")):
            table = pq.read_table(unit)
            rows.update(zip(table["doc_id"].to_pylist(), table["embedding"].to_numpy(), strict=True))
        return np.stack([rows[doc_id] for doc_id in texts_of(corpus)[0]])

    def close(self) -> None:
        """Stops the pool."""
        self.process.communicate(timeout=STOP_SECONDS)


def cold_rate(peer: Peer, corpus: Path) -> float:
    """Starts the peer's process afresh for one pass; returns documents/s from its start to its end."""
    count: int = pq.read_metadata(corpus).num_rows
    started = time.perf_counter()
    with peer.fresh() as again:
        again.documents_per_second(corpus)
        seconds = time.perf_counter() - started
    return count / seconds


def index_rate(corpus: Path, output: Path, *pool: str) -> float:
    """Runs the indexer's command into an empty folder; returns documents/s from its start to its end."""
    shutil.rmtree(output, ignore_errors=True)
    count: int = pq.read_metadata(corpus).num_rows
    started = time.perf_counter()
    command = [sys.executable, "-m", "indexer", "run", "--input", str(corpus), "--output", str(output), *pool]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    seconds = time.perf_counter() - started
    if not (output / "CURRENT").exists():
        raise SystemExit(f"error: the indexer ended without {output / 'CURRENT'}")
    return count / seconds
