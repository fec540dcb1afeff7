"""Real servers for tests: started as a user would start them, ended by their process id."""

import contextlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from embedpool.v1 import embedding_service_pb2_grpc

READY_SECONDS = 60.0
END_SECONDS = 30.0


class WorkerServer:
    """A `python -m worker serve` that runs.

    Attributes:
        process: The server's process; its stdin is a pipe that the test holds open.
        address: What a client dials.
        log: File that takes its stderr.
    """

    def __init__(self, process: "subprocess.Popen[str]", log: Path) -> None:
        self.process = process
        self.log = log
        self.address = ""

    def wait_until_ready(self) -> None:
        """Reads the ready line; fails with the server's log when it does not come in time."""
        assert self.process.stdout is not None
        readable, _, _ = select.select([self.process.stdout], [], [], READY_SECONDS)
        line = self.process.stdout.readline() if readable else ""
        word, _, self.address = line.strip().partition(" ")
        assert word == "ready", f"no ready line but {line!r}; its log:\n{self.log.read_text()}"

    def child_pids(self) -> list[int]:
        """Returns the process ids of the compute processes that live."""
        children = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):  # the process ended while we looked
                state, parent = stat.read_text().rpartition(")")[2].split()[:2]
                if int(parent) == self.process.pid and state != "Z":
                    children.append(int(stat.parent.name))
        return sorted(children)

    def terminate(self) -> int:
        """Asks the server to drain and returns its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(END_SECONDS)

    def end(self) -> None:
        """Ends the server, gently if it can."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(END_SECONDS)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


StartWorker = Callable[..., WorkerServer]


@pytest.fixture
def start_worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartWorker]:
    """Starts servers: `start_worker(bundle, *arguments, listen="127.0.0.1:0", ready=True)`.

    With `ready=False` it returns at once, before the ready line. All are ended with the test.
    """
    servers: list[WorkerServer] = []

    def start(bundle: Path, *arguments: str, listen: str = "127.0.0.1:0", ready: bool = True) -> WorkerServer:
        log = tmp_path_factory.mktemp("worker") / "stderr.log"
        with log.open("wb") as stderr:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "worker", "serve", "--bundle", str(bundle)),
                    *("--listen", listen, "--drain-seconds", "20", *arguments),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
        server = WorkerServer(process, log)
        servers.append(server)
        if ready:
            server.wait_until_ready()
        return server

    yield start
    for server in servers:
        server.end()


@pytest.fixture
def stub_for() -> Iterator[Callable[[WorkerServer], embedding_service_pb2_grpc.EmbeddingServiceStub]]:
    """Makes a client of a server: `stub_for(server)`; its channel is closed with the test."""
    with contextlib.ExitStack() as channels:

        def make(server: WorkerServer) -> embedding_service_pb2_grpc.EmbeddingServiceStub:
            channel = channels.enter_context(grpc.insecure_channel(server.address))
            return embedding_service_pb2_grpc.EmbeddingServiceStub(channel)

        yield make
