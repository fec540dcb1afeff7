"""What a compute process does: forked by the zygote, it answers runs one after the other.

Pins itself, checks that it computes the zygote's bits, then serves. Guarantees: one compute thread; an error
of the model is an answer and never ends the process; the end of the socket (the server ended, however it did)
ends the process. Signals that a terminal or an orchestrator sends to the whole group are ignored: the server
decides.
"""

import os
import signal
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from worker.errors import ModelError, WorkerError
from worker.processes.frames import HEADER, Answer, Failure, Kind, frame, pack_answer, pack_json, unpack_run


class Embedder(Protocol):
    """What computes: `worker.session.Session`."""

    def embed(self, texts: Sequence[NDArray[np.int64]]) -> NDArray[np.float32]:
        """Returns float32 `[texts, dim]`."""


@dataclass(frozen=True)
class Loaded:
    """What the zygote has loaded and its processes share.

    Attributes:
        session: Computes.
        dim: Length of a vector.
        probe: Ids of the probe texts, int64 `[tokens]` each.
        vectors: What the zygote computed for them, float32 `[texts, dim]`.
    """

    session: Embedder
    dim: int
    probe: Sequence[NDArray[np.int64]]
    vectors: NDArray[np.float32]


def ignore_signals() -> None:
    """Ignores what a terminal or an orchestrator sends to a whole group."""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)


def name_process(name: str) -> None:
    """Gives this process a name of up to 15 letters, for `ps` and `top`."""
    Path("/proc/self/comm").write_text(name, encoding="ascii")


def compute(
    session: Embedder, texts: Sequence[NDArray[np.int64]], dim: int, *, alone: bool = False
) -> Answer:
    """Computes a run; when it fails as a whole, its texts are computed one by one to find the guilty.

    Args:
        session: Computes.
        texts: Ids of each text, int64 `[tokens]`.
        dim: Length of a vector.
        alone: Whether no two texts may share a tensor, whatever the model's build allows.
    """
    began = time.perf_counter_ns()
    try:
        vectors = _checked(_alone(session, texts) if alone else session.embed(texts))
        return Answer(vectors, {}, time.perf_counter_ns() - began)
    except ModelError as error:
        if len(texts) == 1:
            failures = {0: _failure(error, texts[0])}
            return Answer(np.zeros((1, dim), np.float32), failures, time.perf_counter_ns() - began)
    answers = [compute(session, [ids], dim) for ids in texts]
    failures = {row: answer.failures[0] for row, answer in enumerate(answers) if answer.failures}
    vectors = np.concatenate([answer.vectors for answer in answers])
    return Answer(vectors, failures, time.perf_counter_ns() - began)


def _alone(session: Embedder, texts: Sequence[NDArray[np.int64]]) -> NDArray[np.float32]:
    return np.concatenate([session.embed([ids]) for ids in texts])


def _checked(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    if not np.isfinite(vectors).all():
        raise ModelError("the model computed values that are not finite")
    return vectors


def _failure(error: WorkerError, ids: NDArray[np.int64]) -> Failure:
    return Failure(type(error).__name__, str(error), f"embedding a text of {len(ids)} tokens")


def run_process(channel: socket.socket, pin: int | None, loaded: Loaded) -> int:
    """Pins itself to a CPU, or floats for None; then serves. Returns the exit code."""
    if pin is not None:
        os.sched_setaffinity(0, {pin})
    with channel:
        try:
            return serve(channel, loaded)
        except (BrokenPipeError, ConnectionResetError):
            return 0  # the server is gone: nobody is left to answer


def serve(channel: socket.socket, loaded: Loaded) -> int:
    """Checks itself and answers runs until the socket ends; returns the exit code."""
    try:
        check_bits(loaded)
    except ModelError as error:
        failure = Failure(type(error).__name__, str(error), "checking the model")
        channel.sendall(frame(Kind.FAILED, pack_json(vars(failure))))
        return 1
    channel.sendall(frame(Kind.READY, b""))
    with channel.makefile("rb") as stream:
        while (request := _read(stream)) is not None:
            kind, body = request
            if kind is Kind.PING:
                channel.sendall(frame(Kind.PONG, b""))
            else:
                answer = compute(loaded.session, unpack_run(body), loaded.dim, alone=kind is Kind.RUN_ALONE)
                channel.sendall(frame(Kind.ANSWER, pack_answer(answer)))
    return 0


def check_bits(loaded: Loaded) -> None:
    """Embeds the probe texts.

    Raises:
        ModelError: The model failed, or its vectors are not those of the zygote bit for bit.
    """
    vectors = loaded.session.embed(loaded.probe)
    if vectors.tobytes() != loaded.vectors.tobytes():
        raise ModelError("the process computes other vectors than the one that loaded the model")


def _read(stream: BufferedReader) -> tuple[Kind, bytes] | None:
    header = stream.read(HEADER.size)
    if len(header) < HEADER.size:
        return None
    length, number = HEADER.unpack(header)
    kind = Kind(number)
    if kind not in {Kind.RUN, Kind.RUN_ALONE, Kind.PING}:
        raise ValueError(f"the server sent frame kind {kind!r}, wanted a run or {Kind.PING!r}")
    body = stream.read(length)
    return (kind, body) if len(body) == length else None
