"""The zygote by itself, driven over its socket as the server does."""

import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from worker.bundle import read_bundle
from worker.processes.control import Message, Word, pair, receive, send
from worker.processes.frames import HEADER, Kind, frame, pack_run, unpack_answer
from worker.session import Session

SECONDS = 60.0
PROBE = [[2, 9, 3]]


def hear(control: socket.socket) -> Message:
    """Returns the next message."""
    control.settimeout(SECONDS)
    message = receive(control)
    assert message is not None
    return message


@contextmanager
def zygote(bundle: Path, fingerprint: str) -> Iterator[socket.socket]:
    """Starts a zygote and ends it."""
    ours, theirs = pair()
    with ours:
        with theirs:
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "worker.processes.zygote",
                    str(theirs.fileno()),
                    str(bundle),
                    fingerprint,
                ],
                pass_fds=(theirs.fileno(),),
            )
        send(ours, Word.LOAD, probe=PROBE)
        yield ours
    process.wait(SECONDS)


def fork(control: socket.socket, number: int = 1) -> tuple[socket.socket, int, int]:
    """Forks a process; returns its socket, its id and its pidfd."""
    ours, theirs = socket.socketpair()
    ours.settimeout(SECONDS)
    with theirs:
        send(control, Word.FORK, [theirs.fileno()], number=number, slot=0, pin=None)
    message = hear(control)
    assert (message.word, message.values["number"]) == (Word.FORKED, number)
    return ours, message.values["pid"], message.descriptors[0]


def read_frame(channel: socket.socket) -> tuple[Kind, bytes]:
    """Reads a frame."""
    # No more than the frame: a buffer would swallow the one behind it.
    length, kind = HEADER.unpack(channel.recv(HEADER.size, socket.MSG_WAITALL))
    return Kind(kind), channel.recv(length, socket.MSG_WAITALL) if length else b""


def ended(pidfd: int) -> bool:
    """Returns whether the process ends in time."""
    readable, _, _ = select.select([pidfd], [], [], SECONDS)
    os.close(pidfd)
    return bool(readable)


def test_forks_serve_and_are_reaped(tiny_bundle: Path) -> None:
    """A forked process computes the session's bits, answers pings, and its end is told with the signal."""
    bundle = read_bundle(tiny_bundle)
    texts = [np.arange(5, 25), np.arange(7, 9)]
    with zygote(tiny_bundle, bundle.manifest.fingerprint) as control:
        assert hear(control).word is Word.LOADED
        channel, pid, pidfd = fork(control)
        with channel:
            assert read_frame(channel) == (Kind.READY, b"")
            channel.sendall(frame(Kind.PING, b"") + frame(Kind.RUN, pack_run(texts)))
            assert read_frame(channel) == (Kind.PONG, b"")
            kind, body = read_frame(channel)
            assert kind is Kind.ANSWER
            assert unpack_answer(body).vectors.tobytes() == Session(bundle).embed(texts).tobytes()
            os.kill(pid, signal.SIGKILL)
            message = hear(control)
            assert (message.word, message.values) == (Word.ENDED, {"number": 1, "code": -signal.SIGKILL})
            assert ended(pidfd)
        send(control, Word.PING)
        assert hear(control).word is Word.PONG


def test_process_ends_with_its_socket(tiny_bundle: Path) -> None:
    """A process whose socket is closed ends by itself, though its siblings live: none holds a copy."""
    with zygote(tiny_bundle, read_bundle(tiny_bundle).manifest.fingerprint) as control:
        hear(control)
        first, _, first_pidfd = fork(control, 1)
        second, _, second_pidfd = fork(control, 2)
        first.close()
        assert hear(control).values == {"number": 1, "code": 0}
        assert ended(first_pidfd)
        assert read_frame(second)[0] is Kind.READY
    assert ended(second_pidfd)  # with the zygote's socket
    second.close()


@pytest.mark.parametrize(
    ("change", "words"), [("fingerprint", "was exchanged"), ("model", "sha256"), ("none", "is no bundle")]
)
def test_loads_nothing_but_the_model_asked_for(
    tiny_bundle: Path, tmp_path: Path, change: str, words: str
) -> None:
    """Another bundle, a damaged one or none: the zygote says what it found, and ends."""
    fingerprint = read_bundle(tiny_bundle).manifest.fingerprint
    if change != "none":
        for file in tiny_bundle.iterdir():
            (tmp_path / file.name).write_bytes(file.read_bytes())
    if change == "model":
        (tmp_path / "model.onnx").write_bytes(b"")
    with zygote(tmp_path, "0" * 64 if change == "fingerprint" else fingerprint) as control:
        message = hear(control)
        values: dict[str, Any] = dict(message.values)
        assert message.word is Word.FAILED
        assert words in values["message"]
        assert receive(control) is None
