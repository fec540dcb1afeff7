"""The server's end of one compute process: have it forked, talk frames with it, learn of its end.

Guarantees: `child_answered` and `child_ready` are called in the order of the frames, `child_gone` exactly
once and last, when the process has ended and all that it sent was read; a signal never meets another process
that got its number. Assumes one event loop; every callback runs on it.
"""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from worker.processes.forker import Forker, ending
from worker.processes.frames import (
    Answer,
    Failure,
    FrameReader,
    Kind,
    frame,
    pack_run,
    unpack_answer,
    unpack_json,
)
from worker.statistics import End

# Signals that the kernel sends to a process for what it did itself.
_OWN_FAULT = frozenset(
    {
        signal.SIGSEGV,
        signal.SIGBUS,
        signal.SIGFPE,
        signal.SIGILL,
        signal.SIGABRT,
        signal.SIGSYS,
        signal.SIGTRAP,
    }
)


class Owner(Protocol):
    """Who is told about a child."""

    def child_ready(self, child: "Child") -> None:
        """It computes what it should."""

    def child_answered(self, child: "Child", answer: Answer) -> None:
        """The run that was sent last is done."""

    def child_ponged(self, child: "Child") -> None:
        """It answered a ping."""

    def child_gone(self, child: "Child", end: End, reason: str) -> None:
        """The process ended."""


class Child(asyncio.Protocol):
    """One compute process.

    Attributes:
        slot: The pool's number for it.
        pid: Its process id; 0 before it is forked.
        lost: Whether its socket ended, so that it can take no run any more.
    """

    def __init__(self, slot: int, owner: Owner) -> None:
        self.slot = slot
        self.pid = 0
        self.lost = False
        self._owner = owner
        self._frames = FrameReader()
        self._failure: Failure | None = None
        self._killed_as: End | None = None
        self._pidfd = -1
        self._checked = False
        self._dead = False
        self._code: int | None = None
        self._code_may_come = True
        self._refusal = ""
        self._transport: asyncio.Transport | None = None
        self._gone = asyncio.Event()

    async def start(self, forker: Forker, pin: int | None) -> None:
        """Has the process forked; `child_ready` or `child_gone` follows.

        Raises:
            OSError: The zygote takes no request; nothing follows.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                ours.setblocking(False)
                loop = asyncio.get_running_loop()
                self._transport, _ = await loop.create_connection(lambda: self, sock=ours)
                forker.fork(self, theirs, self.slot, pin)
            except BaseException:  # a cancellation too: without our end of the socket the process ends
                self._gone.set()
                ours.close() if self._transport is None else self._transport.abort()
                raise

    def run(self, texts: Sequence[NDArray[np.int64]], *, alone: bool) -> None:
        """Sends a run, `alone` if no texts may share a tensor; `child_answered` or `child_gone` follows."""
        self._write(frame(Kind.RUN_ALONE if alone else Kind.RUN, pack_run(texts)))

    def ping(self) -> None:
        """Asks for a sign of life; `child_ponged` or `child_gone` follows."""
        self._write(frame(Kind.PING, b""))

    def kill(self, end: End) -> None:
        """Ends the process at once, with what it computes; `end` is why."""
        self._killed_as = self._killed_as or end
        if self._pidfd >= 0 and not self._dead:
            with contextlib.suppress(ProcessLookupError):  # it was reaped already
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    async def wait(self) -> None:
        """Returns when the process has ended; at once where none was asked for."""
        if self._transport is not None:
            await self._gone.wait()

    def data_received(self, data: bytes) -> None:
        """Passes whole frames on; called by the event loop."""
        for kind, body in self._frames.feed(data):
            if kind is Kind.ANSWER:
                self._owner.child_answered(self, unpack_answer(body))
            elif kind is Kind.READY:
                self._checked = True
                self._tell_ready()
            elif kind is Kind.PONG:
                self._owner.child_ponged(self)
            elif kind is Kind.FAILED:
                self._failure = Failure(**unpack_json(body))

    def _tell_ready(self) -> None:
        # What has no number yet could not be watched or ended: the zygote tells it on a socket of its own.
        if self._checked and self._pidfd >= 0:
            self._owner.child_ready(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Notes the end of the socket; called by the event loop."""
        self.lost = True
        if self._failure is None and not self._dead:
            self._end_silent()
        self._finish()

    def _end_silent(self) -> None:
        # A process without its socket can do no more work; mostly it is dead and not reaped yet.
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def forked(self, pid: int, pidfd: int) -> None:
        """Takes the process's numbers; called by the forker."""
        self.pid = pid
        self._pidfd = pidfd
        asyncio.get_running_loop().add_reader(pidfd, self._died)
        if self._killed_as is not None or self.lost:
            self._end_silent()
        else:
            self._tell_ready()

    def ended(self, code: int) -> None:
        """Takes the exit code; called by the forker."""
        self._code = code
        self._died()

    def refused(self, message: str) -> None:
        """Notes that there is no process; called by the forker."""
        self._refusal = message
        self._died()

    def forker_lost(self) -> None:
        """Notes that no exit code will come; called by the forker."""
        self._code_may_come = False
        if self._pidfd < 0:
            self._died()
            if self._transport is not None:  # a process that runs all the same ends with its socket
                self._transport.abort()
        self._finish()

    def _died(self) -> None:
        self._dead = True
        if self._pidfd >= 0:
            asyncio.get_running_loop().remove_reader(self._pidfd)
        self._finish()

    def _finish(self) -> None:
        told = self._code is not None or bool(self._refusal) or not self._code_may_come
        if self._gone.is_set() or not (self.lost and self._dead and told):
            return
        if self._pidfd >= 0:
            self._reap_orphan()
            os.close(self._pidfd)
        self._gone.set()
        self._owner.child_gone(self, *self._ending())

    def _reap_orphan(self) -> None:
        """Reaps a process whose zygote ended, if it is ours now: as it is in a container's first process."""
        if self._code is None:
            with contextlib.suppress(ChildProcessError):
                os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG)

    def _ending(self) -> tuple[End, str]:
        if self._failure is not None:
            return End.FAILED_TO_LOAD, f"failed {self._failure.doing}: {self._failure.message}"
        if self._refusal:
            return End.FAILED_TO_LOAD, f"could not be forked: {self._refusal}"
        reason = "ended, nobody knows how" if self._code is None else ending(self._code)
        if self._killed_as is not None:
            return self._killed_as, reason
        if self._code is not None and (self._code >= 0 or -self._code in _OWN_FAULT):
            return End.CRASHED, reason
        return End.KILLED, reason

    def _write(self, data: bytes) -> None:
        if self._transport is None:
            raise RuntimeError("the process is not started")
        self._transport.write(data)
