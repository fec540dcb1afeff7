"""Loads a model once and forks compute processes: `python -m worker.processes.zygote FD BUNDLE FINGERPRINT`.

Started by the server only. What is forked shares weights and Python itself until it writes, so a further
process costs what it computes with, and a process that ended is back within milliseconds.

Guarantees: no process is forked but from the model with that fingerprint, which has embedded the probe texts;
a process holds no descriptor but its own socket and what every process has; the end of the control socket
(the server ended, however it did) ends all processes. Assumes that onnxruntime's one idle thread, which no
fork copies, holds no lock.
"""

import gc
import os
import select
import signal
import socket
import sys
import traceback
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from worker.bundle import Manifest, read_bundle
from worker.errors import BundleError, ModelError, WorkerError
from worker.processes.control import Message, Word, receive, send
from worker.processes.process import Loaded, ignore_signals, name_process, run_process
from worker.session import Session

# A vector of unit length may differ from 1 by this much: rounding of float32, with room.
_UNIT_TOLERANCE = 1e-3


@dataclass(frozen=True)
class _Process:
    """A compute process: the server's number for it, its id, and the descriptor that tells of its end."""

    number: int
    pid: int
    pidfd: int


def load(path: Path, fingerprint: str, probe: Sequence[NDArray[np.int64]]) -> Loaded:
    """Loads a bundle and embeds the probe texts, ids int64 `[tokens]` each.

    Raises:
        BundleError: It cannot be read, is damaged, or another one than that of the fingerprint.
        ModelError: It cannot be loaded, or computes nonsense.
    """
    bundle = read_bundle(path)
    if bundle.manifest.fingerprint != fingerprint:
        raise BundleError(
            f"bundle {path} was exchanged: its fingerprint is {bundle.manifest.fingerprint[:12]}…, the "
            f"server serves {fingerprint[:12]}…; reload the server, or put the old bundle back"
        )
    session = Session(bundle)
    vectors = session.embed(probe)
    _check(vectors, bundle.manifest)
    return Loaded(session, bundle.manifest.dim, tuple(probe), vectors)


def _check(vectors: NDArray[np.float32], manifest: Manifest) -> None:
    if not np.isfinite(vectors).all():
        raise ModelError("the model computed values that are not finite for the probe texts")
    lengths = np.linalg.norm(vectors, axis=1)
    if manifest.normalize and np.abs(lengths - 1).max() > _UNIT_TOLERANCE:
        raise ModelError(f"the probe texts' vectors have lengths {lengths.tolist()}, the manifest says 1")


class Zygote:
    """Forks, and reaps what it forked.

    Args:
        control: The socket to the server.
        loaded: What each process computes with.
    """

    def __init__(self, control: socket.socket, loaded: Loaded) -> None:
        self._control = control
        self._loaded = loaded
        self._processes: dict[int, _Process] = {}
        self._poll = select.poll()  # unlike epoll it has no descriptor that a fork would copy
        self._poll.register(control, select.POLLIN)

    def serve(self) -> None:
        """Obeys until the server is gone; then ends and reaps every process."""
        try:
            while True:
                for descriptor, _ in self._poll.poll():
                    if descriptor in self._processes:
                        self._reap(self._processes.pop(descriptor))
                    elif (message := receive(self._control)) is None:
                        return
                    else:
                        self._obey(message)
        except (BrokenPipeError, ConnectionResetError):
            return  # the server is gone: nobody is left to tell
        finally:
            for process in self._processes.values():
                signal.pidfd_send_signal(process.pidfd, signal.SIGKILL)
                os.waitpid(process.pid, 0)

    def _obey(self, message: Message) -> None:
        if message.word is Word.PING:
            send(self._control, Word.PONG)
        elif message.word is Word.FORK:
            (descriptor,) = message.descriptors
            with socket.socket(fileno=descriptor) as channel:
                self._fork(message.values, channel)
        else:
            raise ValueError(f"the server sent {message.word}, wanted {Word.FORK} or {Word.PING}")

    def _fork(self, values: Mapping[str, Any], channel: socket.socket) -> None:
        number = int(values["number"])
        try:
            pid = os.fork()
        except OSError as error:
            send(self._control, Word.REFUSED, number=number, message=str(error))
            return
        if pid == 0:
            self._become_process(values["slot"], channel, values["pin"])
        process = _Process(number, pid, os.pidfd_open(pid))
        self._processes[process.pidfd] = process
        self._poll.register(process.pidfd, select.POLLIN)
        send(self._control, Word.FORKED, [process.pidfd], number=number, pid=pid)

    def _become_process(self, slot: int, channel: socket.socket, pin: int | None) -> NoReturn:
        code = 1
        try:
            # A copy of these would hide the end of the zygote, or of a sibling.
            self._control.close()
            for sibling in self._processes.values():
                os.close(sibling.pidfd)
            name_process(f"embedpool-{slot}")
            code = run_process(channel, pin, self._loaded)
        except BaseException:  # whatever it was: this copy of the zygote must not run on
            traceback.print_exc()
        finally:
            os._exit(code)  # not sys.exit: what the zygote has to clean up is not ours

    def _reap(self, process: _Process) -> None:
        self._poll.unregister(process.pidfd)
        os.close(process.pidfd)
        _, status = os.waitpid(process.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        send(self._control, Word.ENDED, number=process.number, code=code)


def main(arguments: Sequence[str]) -> int:
    """Runs the zygote; `arguments` are the inherited socket, the bundle and its fingerprint."""
    descriptor, bundle, fingerprint = arguments
    ignore_signals()
    name_process("embedpool-model")
    # Python warns of a fork beside threads. The one there is belongs to onnxruntime, waits for work that
    # never comes, and is not needed in the copy.
    warnings.filterwarnings("ignore", message=".*multi-threaded.*fork", category=DeprecationWarning)
    with socket.socket(fileno=int(descriptor)) as control:
        try:
            request = receive(control)
            if request is None:
                return 0
            probe = [np.array(ids, dtype=np.int64) for ids in request.values["probe"]]
            zygote = Zygote(control, load(Path(bundle), fingerprint, probe))
            # What is there now stays: the collector of a fork need not look at it, and so copies no page.
            gc.collect()
            gc.freeze()
            send(control, Word.LOADED)
        except WorkerError as error:
            send(
                control,
                Word.FAILED,
                error=type(error).__name__,
                message=str(error),
                doing="loading the model",
            )
            return 1
        except (BrokenPipeError, ConnectionResetError):
            return 0  # the server is gone
        zygote.serve()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
