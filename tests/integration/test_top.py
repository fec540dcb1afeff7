"""`python -m worker top` in a real terminal and without one, with real servers that work, go and return."""

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from embedpool.v1 import embedding_service_pb2 as pb
from embedpool.v1 import embedding_service_pb2_grpc
from tests.integration.conftest import StartWorker, WorkerServer

SECONDS = 60.0
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
_ALTERNATE_ON, _ALTERNATE_OFF = "\x1b[?1049h", "\x1b[?1049l"
_LOCAL_FLAGS = 3  # of what tcgetattr returns


class Terminal:
    """A pseudo-terminal with `top` in it.

    Attributes:
        process: The command.
        seen: All that it wrote.
    """

    def __init__(self, *arguments: str, columns: int = 100, rows: int = 40) -> None:
        self.fd, self._child = pty.openpty()
        self.resize(columns, rows)
        self.before = termios.tcgetattr(self._child)
        environment = {
            name: os.environ[name] for name in os.environ.keys() - {"COLUMNS", "LINES", "NO_COLOR"}
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "worker", "top", "--interval", "0.3", "--timeout", "1", *arguments],
            stdin=self._child,
            stdout=self._child,
            stderr=self._child,
            env={**environment, "TERM": "xterm-256color"},
        )
        self.seen = ""

    def resize(self, columns: int, rows: int) -> None:
        """Makes the window another size; tells the command, as a terminal does."""
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def wait_for(self, pattern: str, what: Callable[[re.Match[str]], bool] = lambda _: True) -> None:
        """Reads until a picture that is drawn from now on has the pattern; fails after a minute."""
        start, latest = len(self.seen), time.monotonic() + SECONDS
        while time.monotonic() < latest:
            self._read(latest - time.monotonic())
            text = _CONTROL.sub("", self.seen[start:])
            if any(what(found) for found in re.finditer(pattern, text)):
                return
        raise AssertionError(f"no {pattern!r} in:\n{_CONTROL.sub('', self.seen)[-4000:]}")

    def type(self, keys: bytes) -> None:
        """Presses keys."""
        os.write(self.fd, keys)

    def ended(self) -> int:
        """Waits for the command's end; returns its exit code. The terminal is as it was."""
        latest = time.monotonic() + SECONDS
        while self.process.poll() is None and time.monotonic() < latest:
            self._read(0.1)
        code = self.process.wait(1)
        self._read(0)
        assert termios.tcgetattr(self._child) == self.before
        assert self.seen.count(_ALTERNATE_ON) == self.seen.count(_ALTERNATE_OFF)
        return code

    def close(self) -> None:
        """Ends the command, if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(SECONDS)
        os.close(self.fd)
        os.close(self._child)

    def _read(self, seconds: float) -> None:
        while select.select([self.fd], [], [], seconds)[0]:
            self.seen += os.read(self.fd, 65_536).decode(errors="replace")
            seconds = 0


StartTerminal = Callable[..., Terminal]


@pytest.fixture
def start_top() -> Iterator[StartTerminal]:
    """Starts `top` in terminals: `start_top(*arguments, columns=100, rows=40)`; all end with the test."""
    with contextlib.ExitStack() as terminals:

        def start(*arguments: str, **size: int) -> Terminal:
            terminal = Terminal(*arguments, **size)
            terminals.callback(terminal.close)
            return terminal

        yield start


@pytest.fixture(scope="module")
def server(trap_bundle: Path, start_shared_worker: StartWorker) -> WorkerServer:
    """A server of one process."""
    return start_shared_worker(trap_bundle, "--processes", "1")


def _embed(address: str, count: int) -> None:
    with grpc.insecure_channel(address) as channel:
        stub = embedding_service_pb2_grpc.EmbeddingServiceStub(channel)
        for _ in range(count):
            stub.EmbedQuery(pb.EmbedQueryRequest(texts=["w1", "w2 w3"]), wait_for_ready=True, timeout=SECONDS)


def test_it_draws_what_happens_and_a_key_ends_it(server: WorkerServer, start_top: StartTerminal) -> None:
    """Rates of work that is done now, in a window that changes its size; q restores the terminal."""
    terminal = start_top("--target", server.address)
    terminal.wait_for(rf"{re.escape(server.address)}  SERVING  up \d+ s")
    assert not termios.tcgetattr(terminal.fd)[_LOCAL_FLAGS] & (termios.ECHO | termios.ICANON)
    _embed(server.address, 20)
    terminal.wait_for(r"queries/s .*max ([\d.]+)", lambda found: float(found[1]) > 0)
    terminal.wait_for(r"slot +pid +state +runs/s")
    terminal.resize(50, 6)
    terminal.wait_for(r"more lines: make the window")
    terminal.resize(160, 50)
    terminal.wait_for(rf"{server.child_pids()[0]} +\w+ +[\d.]+ +0 +[\d.]+ [KM]iB")
    terminal.type(b"\x1b[A")  # an arrow begins with Escape, and ends nothing
    terminal.wait_for("SERVING")
    terminal.type(b"q")
    assert terminal.ended() == 0
    assert _ALTERNATE_ON in terminal.seen


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_restore_the_terminal_too(
    server: WorkerServer, start_top: StartTerminal, number: signal.Signals, request: pytest.FixtureRequest
) -> None:
    """Ctrl-C and SIGTERM end it as q does, also while a server is away."""
    # A shell starts what runs in its background with SIGINT ignored, and children inherit that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    terminal = start_top("--target", f"{server.address},127.0.0.1:1")
    terminal.wait_for(r"127\.0\.0\.1:1  AWAY")
    terminal.process.send_signal(number)
    assert terminal.ended() == 0
    assert "Traceback" not in terminal.seen


def test_a_server_that_goes_is_away_until_it_is_back(
    trap_bundle: Path, server: WorkerServer, start_worker: StartWorker, start_top: StartTerminal
) -> None:
    """A killed server is shown as away, the other one goes on, and its successor is shown as it is."""
    first = start_worker(trap_bundle, "--processes", "1")
    terminal = start_top("--target", f"{server.address}, {first.address}")
    where = re.escape(first.address)
    terminal.wait_for(rf"{where}  SERVING")
    first.process.send_signal(signal.SIGKILL)
    first.process.wait(SECONDS)
    terminal.wait_for(rf"all servers  1 away[\s\S]*{re.escape(server.address)}  SERVING[\s\S]*{where}  AWAY")
    start_worker(trap_bundle, "--processes", "1", listen=first.address)
    terminal.wait_for(rf"{where}  SERVING  up \d+ s")
    terminal.type(b"q")
    assert terminal.ended() == 0


def _run(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "worker", "top", *arguments],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        env={**os.environ, "COLUMNS": "80", **environment},
    )


def test_once_prints_one_picture_without_rich(server: WorkerServer) -> None:
    """Plain text at 80 columns, two servers, one of them away: no rich, no control characters."""
    code = (
        "import sys; sys.modules['rich'] = None; sys.argv[0] = 'worker'; "
        "from worker.__main__ import run; run()"
    )
    arguments = ("top", "--target", f"{server.address},127.0.0.1:1", "--once", "--interval", "0.2")
    found = subprocess.run(
        [sys.executable, "-c", code, *arguments, "--timeout", "2"],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        env={**os.environ, "COLUMNS": "80"},
    )
    assert found.returncode == 0, found.stderr
    assert "\x1b" not in found.stdout
    assert max(map(len, found.stdout.splitlines())) <= 80
    for words in (
        "all servers  1 away",
        f"{server.address}  SERVING",
        "127.0.0.1:1  AWAY",
        "traps, traps, 8 dim",
    ):
        assert words in found.stdout
    again = _run("--target", server.address, "--interval", "0.2", PYTHONIOENCODING="ascii")
    assert again.returncode == 0, again.stderr  # without a terminal it prints once, whatever its signs
    assert f"{server.address}  SERVING" in again.stdout


def test_what_goes_wrong_is_one_line(server: WorkerServer, start_top: StartTerminal) -> None:
    """Nobody there, no such setting, no rich: an error that says what to do, and its exit code."""
    found = _run("--target", "127.0.0.1:1", "--once", "--interval", "0.2", "--timeout", "0.5")
    assert (found.returncode, found.stdout) == (1, "")
    assert re.fullmatch(r"error: no embedpool server answers at 127\.0\.0\.1:1 .*\n", found.stderr)
    for arguments in (("--target", ","), ("--target", server.address, "--interval", "0")):
        found = _run(*arguments)
        assert found.returncode == 2
        assert found.stderr.count("\n") == 1
