"""The server's end of one compute process: start it, talk frames with it, learn of its end.

Guarantees: `answered` and `ready` are called in the order of the frames, `gone` exactly once and last, after
the process was reaped. Assumes one event loop; every callback runs on it.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from worker.frames import Answer, Failure, FrameReader, Kind, frame, pack_run, unpack_answer, unpack_json

# Libraries that read these start one thread per host CPU otherwise.
_ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"), "1"
)


class Owner(Protocol):
    """Who is told about a child."""

    def child_ready(self, child: "Child", fingerprint: str) -> None:
        """The model is loaded."""

    def child_answered(self, child: "Child", answer: Answer) -> None:
        """The run that was sent last is done."""

    def child_lost(self, child: "Child") -> None:
        """Its socket ended: it can take no run any more."""

    def child_gone(self, child: "Child", reason: str) -> None:
        """The process ended and was reaped."""


class Child(asyncio.Protocol):
    """One compute process.

    Attributes:
        slot: The pool's number for it.
        pid: Its process id.
    """

    def __init__(self, slot: int, owner: Owner) -> None:
        self.slot = slot
        self.pid = 0
        self._owner = owner
        self._frames = FrameReader()
        self._failure: Failure | None = None
        self._lost = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None
        self._transport: asyncio.Transport | None = None
        self._reaper: asyncio.Task[None] | None = None

    async def start(self, bundle: Path, pin: int | None) -> None:
        """Starts the process; `ready` or `gone` follows.

        Raises:
            OSError: It cannot be started; nothing follows.
        """
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                process = await self._spawn(theirs.fileno(), bundle, pin)
            ours.setblocking(False)
            loop = asyncio.get_running_loop()
            self._transport, _ = await loop.create_connection(lambda: self, sock=ours)
        except BaseException:  # a cancellation too: without our end of the socket the process ends
            ours.close()
            raise
        self._reaper = loop.create_task(self._reap(process))

    async def _spawn(self, descriptor: int, bundle: Path, pin: int | None) -> asyncio.subprocess.Process:
        arguments = [str(descriptor), "any" if pin is None else str(pin), str(bundle)]
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "worker.process", *arguments),
            pass_fds=(descriptor,),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,  # the server's stdout holds its ready line alone
            env={**os.environ, **_ONE_THREAD},
        )
        self.pid = self._process.pid
        return self._process

    def run(self, texts: Sequence[NDArray[np.int64]]) -> None:
        """Sends a run; `answered` or `gone` follows."""
        if self._transport is None:
            raise RuntimeError("the process is not started")
        self._transport.write(frame(Kind.RUN, pack_run(texts)))

    def kill(self) -> None:
        """Ends the process at once, with what it computes."""
        if self._process is not None and self._process.returncode is None:
            # Not the process's own `kill`: it polls first, and may take the exit code from asyncio's watcher.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    async def stop(self) -> None:
        """Ends the process and waits until it is reaped."""
        self.kill()
        if self._transport is not None:
            self._transport.close()
        if self._reaper is not None:
            await self._reaper

    def data_received(self, data: bytes) -> None:
        """Passes whole frames on; called by the event loop."""
        for kind, body in self._frames.feed(data):
            if kind is Kind.ANSWER:
                self._owner.child_answered(self, unpack_answer(body))
            elif kind is Kind.READY:
                self._owner.child_ready(self, str(unpack_json(body)["fingerprint"]))
            elif kind is Kind.FAILED:
                self._failure = Failure(**unpack_json(body))

    def connection_lost(self, exc: Exception | None) -> None:
        """Notes the end of the socket; called by the event loop."""
        self._lost.set()
        self._owner.child_lost(self)

    async def _reap(self, process: asyncio.subprocess.Process) -> None:
        await self._lost.wait()
        # A process without its socket can do no more work; one that failed to load ends by itself.
        if self._failure is None:
            self.kill()
        code = await process.wait()
        self._owner.child_gone(self, self._reason(code))

    def _reason(self, code: int) -> str:
        if self._failure is not None:
            return f"failed {self._failure.doing}: {self._failure.message}"
        if code < 0:
            return f"ended by signal {signal.Signals(-code).name}"
        return f"ended with exit code {code}"
