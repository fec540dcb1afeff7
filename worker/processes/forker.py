"""The server's end of one zygote: start it, have it fork, learn how processes ended, and of its own end.

Guarantees: of each process asked for, `forked` or `ended` comes first, `ended` or `forker_lost` at last;
`on_lost` is called once, for a zygote that had loaded its model and was not stopped. Assumes one event loop.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import Protocol

from worker.errors import ModelError
from worker.models import Model, probe_ids
from worker.processes.control import Message, Word, pair, receive, send
from worker.processes.frames import Failure

# Libraries that read these start one thread per host CPU otherwise.
_ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"), "1"
)
# Seconds for a zygote to end its processes and itself before it is killed; arbitrary, it takes milliseconds.
_END_SECONDS = 2.0


class Forked(Protocol):
    """Who is told about one process."""

    def forked(self, pid: int, pidfd: int) -> None:
        """It exists; the descriptor is the receiver's to close."""

    def ended(self, code: int) -> None:
        """It was reaped; a signal is a negative code."""

    def refused(self, message: str) -> None:
        """It could not be forked."""

    def forker_lost(self) -> None:
        """Nobody will tell how it ends."""


class Forker:
    """One zygote.

    Args:
        model: What it loads.
        on_lost: Called with it and with why it ended.
    """

    def __init__(self, model: Model, on_lost: Callable[["Forker", str], None]) -> None:
        self._model = model
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._loaded: asyncio.Future[None] = self._loop.create_future()
        self._failure: Failure | None = None
        self._control: socket.socket | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._children: dict[int, Forked] = {}
        self._numbers = 0
        self._stopping = False
        self._reaper: asyncio.Task[None] | None = None
        self.pinged = False

    @property
    def alive(self) -> bool:
        """Whether it takes requests."""
        return self._control is not None

    async def start(self, seconds: float) -> None:
        """Starts the zygote and waits until it has loaded and checked the model.

        Raises:
            ModelError: It could not, or not in time; nothing of it is left.
        """
        try:
            await self._spawn()
            await asyncio.wait_for(asyncio.shield(self._loaded), seconds)
        except TimeoutError:
            await self.stop()
            raise ModelError(f"the model was not loaded within {seconds:g} s; see start_seconds") from None
        except OSError as error:
            await self.stop()
            raise ModelError(f"the process that loads the model could not be started: {error}") from error
        except BaseException:  # a cancellation too
            await self.stop()
            raise

    async def _spawn(self) -> None:
        ours, theirs = pair()
        ours.setblocking(False)
        self._control = ours
        with theirs:
            path, fingerprint = self._model.bundle.path, self._model.bundle.manifest.fingerprint
            process = self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "worker.processes.zygote", str(theirs.fileno()), str(path), fingerprint),
                pass_fds=(theirs.fileno(),),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,  # the server's stdout holds its ready line alone
                env={**os.environ, **_ONE_THREAD},
            )
        self._loop.add_reader(ours, self._read, process)
        send(ours, Word.LOAD, probe=probe_ids(self._model))

    @property
    def pid(self) -> int:
        """Its process id; 0 before it was started."""
        return self._process.pid if self._process is not None else 0

    def fork(self, child: Forked, channel: socket.socket, number: int, pin: int | None) -> None:
        """Asks for a process that serves on `channel`.

        Raises:
            OSError: The zygote takes no request.
        """
        if self._control is None:
            raise BrokenPipeError("the process that forks has ended")
        self._numbers += 1
        send(self._control, Word.FORK, [channel.fileno()], number=self._numbers, slot=number, pin=pin)
        self._children[self._numbers] = child

    def ping(self) -> None:
        """Asks for a sign of life; `pinged` is true until it comes."""
        self.pinged = True
        if self._control is not None:
            with contextlib.suppress(OSError):  # its end is told otherwise, and a full socket is no life
                send(self._control, Word.PING)

    def kill(self) -> None:
        """Ends the zygote alone, at once; its processes live on."""
        if self._process is not None and self._process.returncode is None:
            # Not the process's own `kill`: it polls first, and may take the exit code from asyncio's watcher.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)

    async def stop(self) -> None:
        """Ends the zygote and its processes."""
        self._stopping = True
        self._close()
        if not self._loaded.done():
            self._fail("the process that loads the model was stopped")
            self.kill()  # it hears of nothing while it loads
        if self._process is not None:
            try:
                await asyncio.wait_for(self._process.wait(), _END_SECONDS)
            except TimeoutError:
                self.kill()
                await self._process.wait()
        if self._reaper is not None:
            await self._reaper
        self._leave_children()

    def _read(self, process: asyncio.subprocess.Process) -> None:
        while self._control is not None:
            try:
                message = receive(self._control)
            except BlockingIOError:
                return
            if message is None:
                self._close()
                self._reaper = self._loop.create_task(self._reap(process))
                return
            self._take(message)

    def _take(self, message: Message) -> None:
        values = message.values
        if message.word is Word.LOADED:
            if not self._loaded.done():
                self._loaded.set_result(None)
        elif message.word is Word.FAILED:
            self._failure = Failure(**values)
        elif message.word is Word.PONG:
            self.pinged = False
        elif message.word is Word.FORKED:
            (pidfd,) = message.descriptors
            self._children[values["number"]].forked(values["pid"], pidfd)
        elif message.word is Word.ENDED:
            self._children.pop(values["number"]).ended(values["code"])
        elif message.word is Word.REFUSED:
            self._children.pop(values["number"]).refused(values["message"])

    def _close(self) -> None:
        if self._control is not None:
            self._loop.remove_reader(self._control)
            self._control.close()
            self._control = None

    async def _reap(self, process: asyncio.subprocess.Process) -> None:
        """Learns why the socket ended."""
        if self._failure is None:
            self.kill()  # without its socket it is of no use; one that failed ends by itself
        code = await process.wait()
        reason = f"failed {self._failure.doing}: {self._failure.message}" if self._failure else ending(code)
        if not self._loaded.done():
            self._fail(f"the process that loads the model {reason}")
        elif not self._stopping:
            self._leave_children()
            self._on_lost(self, reason)

    def _fail(self, reason: str) -> None:
        self._loaded.set_exception(ModelError(reason))
        self._loaded.exception()  # whoever waited may have left

    def _leave_children(self) -> None:
        children, self._children = self._children, {}
        for child in children.values():
            child.forker_lost()


def ending(code: int) -> str:
    """Returns an exit code in words: a negative one is a signal."""
    return f"ended by signal {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
