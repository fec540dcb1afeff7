"""A compute process: `python -m worker.process FD CPU BUNDLE`, started by the server only.

Pins itself, loads the model, then answers runs one after the other. Guarantees: one compute thread; an error
of the model is an answer and never ends the process; the end of the socket (the server ended, however it did)
ends the process. Signals that a terminal or an orchestrator sends to the whole group are ignored: the server
decides.
"""

import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from io import BufferedReader
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from worker.bundle import read_bundle
from worker.errors import ModelError, WorkerError
from worker.frames import HEADER, Answer, Failure, Kind, frame, pack_answer, pack_json, unpack_run
from worker.session import Session


class Embedder(Protocol):
    """What computes: `worker.session.Session`."""

    def embed(self, texts: Sequence[NDArray[np.int64]]) -> NDArray[np.float32]:
        """Returns float32 `[texts, dim]`."""


def compute(session: Embedder, texts: Sequence[NDArray[np.int64]], dim: int) -> Answer:
    """Computes a run; when it fails as a whole, its texts are computed one by one to find the guilty."""
    began = time.perf_counter_ns()
    try:
        vectors = _checked(session.embed(texts))
        return Answer(vectors, {}, time.perf_counter_ns() - began)
    except ModelError as error:
        if len(texts) == 1:
            failures = {0: _failure(error, texts[0])}
            return Answer(np.zeros((1, dim), np.float32), failures, time.perf_counter_ns() - began)
    alone = [compute(session, [ids], dim) for ids in texts]
    failures = {row: answer.failures[0] for row, answer in enumerate(alone) if answer.failures}
    vectors = np.concatenate([answer.vectors for answer in alone])
    return Answer(vectors, failures, time.perf_counter_ns() - began)


def _checked(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    if not np.isfinite(vectors).all():
        raise ModelError("the model computed values that are not finite")
    return vectors


def _failure(error: WorkerError, ids: NDArray[np.int64]) -> Failure:
    return Failure(type(error).__name__, str(error), f"embedding a text of {len(ids)} tokens")


def serve(channel: socket.socket, bundle_path: Path) -> int:
    """Loads the model and answers runs until the socket ends; returns the exit code."""
    try:
        bundle = read_bundle(bundle_path)
        session = Session(bundle)
    except WorkerError as error:
        failure = Failure(type(error).__name__, str(error), "loading the model")
        channel.sendall(frame(Kind.FAILED, pack_json(vars(failure))))
        return 1
    dim = bundle.manifest.dim
    ready = {"fingerprint": bundle.manifest.fingerprint, "dim": dim}
    channel.sendall(frame(Kind.READY, pack_json(ready)))
    with channel.makefile("rb") as stream:
        while (body := _read_run(stream)) is not None:
            answer = compute(session, unpack_run(body), dim)
            channel.sendall(frame(Kind.ANSWER, pack_answer(answer)))
    return 0


def _read_run(stream: BufferedReader) -> bytes | None:
    header = stream.read(HEADER.size)
    if len(header) < HEADER.size:
        return None
    length, kind = HEADER.unpack(header)
    if kind != Kind.RUN:
        raise ValueError(f"the server sent frame kind {kind}, wanted {Kind.RUN}")
    body = stream.read(length)
    return body if len(body) == length else None


def main(arguments: Sequence[str]) -> int:
    """Runs the process; `arguments` are the inherited socket, the CPU to pin to or "any", and the bundle."""
    descriptor, cpu, bundle = arguments
    for ignored in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ignored, signal.SIG_IGN)
    if cpu != "any":
        os.sched_setaffinity(0, {int(cpu)})
    with socket.socket(fileno=int(descriptor)) as channel:
        try:
            return serve(channel, Path(bundle))
        except (BrokenPipeError, ConnectionResetError):
            return 0  # the server is gone: nobody is left to answer


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
