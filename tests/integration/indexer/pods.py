"""Pools in network namespaces of their own, as pods on other machines: each can be cut off.

A cut drops every packet without a word, as a switch that fails or a machine that loses power: nothing is
closed. For that a test needs root and iproute2; without them it is skipped with the reason.
"""

import contextlib
import itertools
import os
import select
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import WorkerServer

PORT = 50051
_READY_SECONDS = 120.0
_END_SECONDS = 60.0
_NUMBERS = itertools.count(1)  # of the networks of this process


class Pod:
    """A `python -m worker serve` in a network namespace of its own.

    Attributes:
        ip: Its address, as this process reaches it.
        process: The server's process.
    """

    def __init__(self, bundle: Path, log: Path, options: tuple[str, ...] = ()) -> None:
        # The pid makes names and addresses that tests at the same time do not share.
        number = next(_NUMBERS)
        self._network = f"10.{100 + os.getpid() % 100}.{number}"
        self.ip, self._outside = f"{self._network}.2", f"ep{os.getpid() % 10**6}-{number}"
        serve = [sys.executable, "-m", "worker", "serve", "--bundle", str(bundle), "--processes", "1"]
        serve += ["--listen", f"{self.ip}:{PORT}", "--drain-seconds", "20", "--insecure", *options]
        # It waits for a line before it serves: until then its namespace gets its end of the cable.
        waiting = ["sh", "-c", 'echo begun; read -r line; exec "$@"', "sh", *serve]
        command = ["unshare", "--net", *waiting]
        mark = f"POD_UNDER_TEST={uuid.uuid4()}"
        with log.open("wb") as stderr:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                env={**os.environ, "POD_UNDER_TEST": mark.partition("=")[2]},
            )
        self._server = WorkerServer(self.process, log, mark)
        self._log = log

    @property
    def address(self) -> str:
        """What a client dials."""
        return f"{self.ip}:{PORT}"

    def serve(self) -> None:
        """Lays the cable and lets the server begin."""
        assert self._line() == "begun", self._log.read_text()
        pid, outside = str(self.process.pid), self._outside
        _run("ip", "link", "add", outside, "type", "veth", "peer", "name", "eth0", "netns", pid)
        _run("ip", "address", "add", f"{self._network}.1/24", "dev", outside)
        _run("ip", "link", "set", outside, "up")
        self._inside("ip", "link", "set", "lo", "up")
        self._inside("ip", "address", "add", f"{self.ip}/24", "dev", "eth0")
        self._inside("ip", "link", "set", "eth0", "up")
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def wait_until_ready(self) -> "Pod":
        """Returns when it serves."""
        assert self._line() == f"ready {self.address}", self._log.read_text()
        return self

    def child_pids(self) -> list[int]:
        """Returns the process ids of its compute processes."""
        return self._server.child_pids()

    def cut(self) -> None:
        """From now on every packet from and to it is lost, and nobody is told."""
        self._inside("ip", "link", "set", "eth0", "down")

    def heal(self) -> None:
        """Ends the cut."""
        self._inside("ip", "link", "set", "eth0", "up")

    def drain(self) -> None:
        """Asks it to end in order."""
        self.process.send_signal(signal.SIGTERM)

    def end(self) -> None:
        """Ends it, gently if it can; its end of the cable goes with its namespace."""
        if self.process.poll() is None:
            self.drain()
            try:
                self.process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(_END_SECONDS)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()

    def _inside(self, *command: str) -> None:
        _run("nsenter", "--target", str(self.process.pid), "--net", *command)

    def _line(self) -> str:
        assert self.process.stdout is not None
        readable, _, _ = select.select([self.process.stdout], [], [], _READY_SECONDS)
        return self.process.stdout.readline().strip() if readable else ""


@contextlib.contextmanager
def pods(bundle: Path, folder: Path, count: int, *options: str) -> Iterator[list[Pod]]:
    """Yields pools that serve; skips where namespaces may not be made."""
    require_namespaces()
    made: list[Pod] = []
    try:
        for number in range(count):
            made.append(Pod(bundle, folder / f"pod{number}.log", options))
            made[-1].serve()
        yield [pod.wait_until_ready() for pod in made]
    finally:
        for pod in made:
            pod.end()


def require_namespaces() -> None:
    """Skips the test where network namespaces cannot be made."""
    for tool in ("ip", "unshare", "nsenter"):
        if shutil.which(tool) is None:
            pytest.skip(f"the command {tool} is not installed: pools get no network namespace of their own")
    made = subprocess.run(["unshare", "--net", "true"], capture_output=True, text=True, timeout=60)  # noqa: S607
    if made.returncode:
        pytest.skip(f"network namespaces may not be made here: {made.stderr.strip()}")


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
