"""A search server for tests: `python -m indexer serve`, as a user would start it."""

import contextlib
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from embedpool.v1 import embedding_service_pb2 as embedding_pb
from embedpool.v1 import search_service_pb2 as pb
from embedpool.v1 import search_service_pb2_grpc

READY_SECONDS = 60.0
END_SECONDS = 40.0
CALL_SECONDS = 20.0


class SearchServer:
    """A server that runs.

    Attributes:
        process: Its process.
        address: What a client dials.
        log: File that takes its stderr.
    """

    def __init__(self, log: Path, *arguments: str | Path) -> None:
        self.log = log
        with log.open("wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "indexer", "serve", "--listen", "127.0.0.1:0", *map(str, arguments)],
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
        self.address = ""

    def wait_until_ready(self) -> None:
        """Reads the ready line; fails with the server's log when it does not come in time."""
        assert self.process.stdout is not None
        readable, _, _ = select.select([self.process.stdout], [], [], READY_SECONDS)
        line = self.process.stdout.readline() if readable else ""
        word, _, self.address = line.strip().partition(" ")
        assert word == "ready", f"no ready line but {line!r}; its log:\n{self.log.read_text()}"

    def terminate(self) -> int:
        """Asks it to drain and returns its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(END_SECONDS)

    def end(self) -> None:
        """Ends it, gently if it can."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(END_SECONDS)
        if self.process.stdout is not None:
            self.process.stdout.close()


@contextlib.contextmanager
def search_server(folder: Path, *arguments: str | Path) -> Iterator[SearchServer]:
    """Starts a server and ends it with the block; its log lies in `folder`."""
    number = len(list(folder.glob("serve-*.log")))
    server = SearchServer(folder / f"serve-{number}.log", *arguments)
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.end()


class Caller:
    """A client of a search server, made of the generated stub alone."""

    def __init__(self, address: str, credentials: Any = None, token: str = "") -> None:
        self._channel = (
            grpc.insecure_channel(address)
            if credentials is None
            else grpc.secure_channel(address, credentials)
        )
        self.stub = search_service_pb2_grpc.SearchServiceStub(self._channel)
        self._metadata = (("authorization", f"Bearer {token}"),) if token else ()

    def search(self, request: pb.SearchRequest, seconds: float = CALL_SECONDS) -> pb.SearchResponse:
        """Returns the answer; raises grpc.RpcError."""
        answer: pb.SearchResponse = self.stub.Search(request, timeout=seconds, metadata=self._metadata)
        return answer

    def index(self) -> pb.GetIndexResponse:
        """Returns what is served."""
        request = pb.GetIndexRequest()
        answer: pb.GetIndexResponse = self.stub.GetIndex(
            request, timeout=CALL_SECONDS, metadata=self._metadata
        )
        return answer

    def failure(self, request: pb.SearchRequest, seconds: float = CALL_SECONDS) -> tuple[str, str]:
        """Returns status and message of a request that fails."""
        try:
            self.search(request, seconds)
        except grpc.RpcError as error:
            return error.code().name, error.details()
        raise AssertionError("the call did not fail")

    def status(self, request: pb.SearchRequest) -> str:
        """Returns the status that a request gets, OK or another."""
        try:
            self.search(request)
        except grpc.RpcError as error:
            return str(error.code().name)
        return "OK"

    def close(self) -> None:
        """Ends the connection."""
        self._channel.close()


def packed(
    vectors: Any, kind: embedding_pb.VectorType = embedding_pb.VECTOR_TYPE_FLOAT32
) -> embedding_pb.Vectors:
    """Returns vectors as they travel, `[rows, dim]`; INT8 with a scale for each row."""
    rows, dim = vectors.shape
    if kind == embedding_pb.VECTOR_TYPE_INT8:
        scales = (np.abs(vectors).max(axis=1) / 127).astype("<f4")
        values = np.rint(vectors / scales[:, None]).astype("i1")
        return embedding_pb.Vectors(
            data=values.tobytes(), scales=scales.tobytes(), type=kind, dim=dim, rows=rows
        )
    values = vectors.astype("<f2" if kind == embedding_pb.VECTOR_TYPE_FLOAT16 else "<f4")
    return embedding_pb.Vectors(data=values.tobytes(), type=kind, dim=dim, rows=rows)
