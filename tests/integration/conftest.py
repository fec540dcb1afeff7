"""Real servers for tests: started as a user would start them, ended by their process id."""

import contextlib
import os
import re
import select
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, pre_tokenizers

from embedpool.v1 import embedding_service_pb2_grpc
from worker.bundle import MODEL, TOKENIZER, Manifest, Pooling, file_sha256, fingerprint, write_manifest

READY_SECONDS = 60.0
END_SECONDS = 30.0


class WorkerServer:
    """A `python -m worker serve` that runs.

    Attributes:
        process: The server's process; its stdin is a pipe that the test holds open.
        address: What a client dials.
        log: File that takes its stderr.
        mark: A variable in its environment, by which the processes that it starts are known: one whose zygote
            ended is no descendant of the server any more.
    """

    def __init__(self, process: "subprocess.Popen[str]", log: Path, mark: str = "") -> None:
        self.process = process
        self.log = log
        self.mark = mark
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
        return [pid for pid, name in self._processes() if re.fullmatch(r"embedpool-\d+", name)]

    def zygote_pids(self) -> list[int]:
        """Returns the process ids of the processes that fork compute processes, and live."""
        return [pid for pid, name in self._processes() if name == "embedpool-model"]

    def _processes(self) -> Iterator[tuple[int, str]]:
        for folder in sorted(Path("/proc").glob("[0-9]*"), key=lambda path: int(path.name)):
            with contextlib.suppress(OSError):  # it is another user's, or ended while we looked
                # That of a zombie is empty.
                if self.mark.encode() in (folder / "environ").read_bytes().split(b"\0"):
                    yield int(folder.name), (folder / "comm").read_text().strip()

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


def _starter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartWorker]:
    servers: list[WorkerServer] = []

    def start(bundle: Path, *arguments: str, listen: str = "127.0.0.1:0", ready: bool = True) -> WorkerServer:
        log = tmp_path_factory.mktemp("worker") / "stderr.log"
        mark = f"WORKER_UNDER_TEST={uuid.uuid4()}"
        name, value = mark.split("=")
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
                env={**os.environ, "PYTHONUNBUFFERED": "1", name: value},
            )
        server = WorkerServer(process, log, mark)
        servers.append(server)
        if ready:
            server.wait_until_ready()
        return server

    yield start
    for server in servers:
        server.end()


@pytest.fixture
def start_worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartWorker]:
    """Starts servers: `start_worker(bundle, *arguments, listen="127.0.0.1:0", ready=True)`.

    With `ready=False` it returns at once, before the ready line. All are ended with the test.
    """
    yield from _starter(tmp_path_factory)


@pytest.fixture(scope="module")
def start_shared_worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartWorker]:
    """As `start_worker`, for servers that the tests of a file share and leave as they are."""
    yield from _starter(tmp_path_factory)


@pytest.fixture
def stub_for() -> Iterator[Callable[[WorkerServer], embedding_service_pb2_grpc.EmbeddingServiceStub]]:
    """Makes a client of a server: `stub_for(server)`; its channel is closed with the test."""
    with contextlib.ExitStack() as channels:

        def make(server: WorkerServer) -> embedding_service_pb2_grpc.EmbeddingServiceStub:
            channel = channels.enter_context(grpc.insecure_channel(server.address))
            return embedding_service_pb2_grpc.EmbeddingServiceStub(channel)

        yield make


TRAP_DIM = 8
TRAP_WORDS = ["[UNK]", "hang", "fail", "nan", *(f"w{number}" for number in range(96))]


def _trap_graph() -> onnx.ModelProto:
    """Averages rows of a table; loops for ever on "hang", fails on "fail", divides by zero on "nan"."""
    table = np.random.default_rng(0).standard_normal((len(TRAP_WORDS), TRAP_DIM)).astype(np.float32)
    constants = {
        "table": table,
        "hang": np.array(1, np.int64),
        "fail": np.array(2, np.int64),
        "nan": np.array(3, np.int64),
        "far": np.array(10**9, np.int64),
        "for_ever": np.array(10**15, np.int64),
        "yes": np.array(True),
        "zero": np.array(0, np.float32),
        "one": np.array(1, np.float32),
    }
    step = helper.make_graph(
        [
            helper.make_node("Identity", ["condition"], ["condition_out"]),
            helper.make_node("Identity", ["value"], ["value_out"]),
        ],
        "step",
        [
            helper.make_tensor_value_info("trip", TensorProto.INT64, []),
            helper.make_tensor_value_info("condition", TensorProto.BOOL, []),
            helper.make_tensor_value_info("value", TensorProto.FLOAT, []),
        ],
        [
            helper.make_tensor_value_info("condition_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("value_out", TensorProto.FLOAT, []),
        ],
    )
    nodes = []
    for word in ("hang", "fail", "nan"):
        nodes += [
            helper.make_node("Equal", ["input_ids", word], [f"is_{word}"]),
            helper.make_node("Cast", [f"is_{word}"], [f"at_{word}"], to=TensorProto.INT64),
            helper.make_node("ReduceMax", [f"at_{word}"], [f"any_{word}"], keepdims=0),
        ]
    nodes += [
        helper.make_node("Mul", ["any_hang", "for_ever"], ["trips"]),
        helper.make_node("Loop", ["trips", "yes", "zero"], ["nothing"], body=step),
        helper.make_node("Mul", ["at_fail", "far"], ["offsets"]),
        helper.make_node("Add", ["input_ids", "offsets"], ["rows"]),
        helper.make_node("Gather", ["table", "rows"], ["vectors"]),
        helper.make_node("ReduceMean", ["vectors"], ["mean"], axes=[1], keepdims=0),
        helper.make_node("Cast", ["any_nan"], ["nan_count"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["one", "nan_count"], ["divisor"]),
        helper.make_node("Div", ["mean", "divisor"], ["finite"]),
        helper.make_node("Add", ["finite", "nothing"], ["embedding"]),
    ]
    graph = helper.make_graph(
        nodes,
        "traps",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "tokens"])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", TRAP_DIM])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture(scope="session")
def trap_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose model loops for ever on "hang", fails on "fail" and computes infinity on "nan".

    All other words ("w0" to "w95") are harmless. Vectors have 8 values and are not normalized.
    """
    return write_trap_bundle(tmp_path_factory.mktemp("traps"))


def write_trap_bundle(folder: Path) -> Path:
    """Writes the files of `trap_bundle` into a folder, and returns it."""
    onnx.save(_trap_graph(), folder / MODEL)
    vocabulary = {word: number for number, word in enumerate(TRAP_WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=TRAP_WORDS[0]))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / TOKENIZER))
    files = {name: file_sha256(folder / name) for name in (MODEL, TOKENIZER)}
    settings: dict[str, Any] = {
        "max_tokens": 32,
        "pooling": Pooling.MEAN,
        "normalize": False,
        "prompts": {"question": "w1 w2 "},
        "query_prompt": "question",
        "document_prompt": "",
        "recipe": {"name": "traps"},
    }
    name = fingerprint(files, **settings)
    write_manifest(folder, Manifest(name="traps", fingerprint=name, dim=TRAP_DIM, files=files, **settings))
    return folder
