"""Who works on an index: one process that changes the whole of it, or several that embed its units.

The lock is the kernel's (flock), so it is freed however a process ends. Beside it each holder keeps a file
with its name, locked as long as it lives: that is how a refusal can say who it is, also on another machine. A
unit is claimed by a lock on one byte of a file (POSIX record locks), which the kernel frees likewise.

Assumes: a file system with both kinds of locks, as local ones and NFS 4 have. In a process one `Claims` at a
time for an index: closing a file frees all record locks that the process has on it.
"""

import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from indexer.errors import StorageError, StoreError
from indexer.store.layout import Layout

_POLL_SECONDS = 0.1  # between looks whether a lock is free; arbitrary
RUN = "run"  # the command that others wait for: it ends by itself, and with the work that they want done


@dataclass(frozen=True)
class Holder:
    """A process that works on an index: its host, pid and command, as it says."""

    host: str
    pid: int
    command: str

    def __str__(self) -> str:
        here = "" if self.host == socket.gethostname() else f" on {self.host}"
        return f"{self.command} (pid {self.pid}{here})"


def this_holder(command: str) -> Holder:
    """Returns what this process is called while it holds an index."""
    return Holder(socket.gethostname(), os.getpid(), command)


class BusyError(StoreError):
    """Other processes work on the index.

    Attributes:
        holders: Who they are; empty where they could not be read.
    """

    def __init__(self, root: Path, holders: list[Holder]) -> None:
        named = ", ".join(map(str, holders)) or "process"
        super().__init__(f"another {named} works on {root}; wait until it is done, or stop it")
        self.holders = holders


@contextmanager
def exclusive(
    layout: Layout, command: str, on_wait: Callable[[list[Holder]], None] | None = None
) -> Iterator[None]:
    """Holds an index alone.

    Args:
        layout: The index.
        command: What is done to it, for whoever is refused meanwhile.
        on_wait: Given: wait as long as all others are runs, and tell this once who they are.

    Raises:
        BusyError: Others work on it; the message names them.
        StorageError: The lock file cannot be made.
    """
    with _held(layout, command, fcntl.LOCK_EX, on_wait):
        yield


@contextmanager
def shared(
    layout: Layout, command: str, on_wait: Callable[[list[Holder]], None] | None = None
) -> Iterator[None]:
    """Holds an index together with others that do likewise; arguments and errors as `exclusive`."""
    with _held(layout, command, fcntl.LOCK_SH, on_wait):
        yield


@contextmanager
def _held(
    layout: Layout, command: str, kind: int, on_wait: Callable[[list[Holder]], None] | None
) -> Iterator[None]:
    lock = _opened(layout.lock)
    try:
        _wait(layout, lock, kind, on_wait)
        with _named(layout, command):
            yield
    finally:
        os.close(lock)


def _wait(layout: Layout, lock: int, kind: int, on_wait: Callable[[list[Holder]], None] | None) -> None:
    told = False
    while not _take(lock, kind):
        found = holders(layout)
        if on_wait is None or any(one.command != RUN for one in found):
            raise BusyError(layout.root, found)
        if not told:
            told = True
            on_wait(found)
        time.sleep(_POLL_SECONDS)


def _take(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _opened(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise StorageError(
            f"cannot write {path}: {error.strerror}; choose another --output or mend that"
        ) from error


@contextmanager
def _named(layout: Layout, command: str) -> Iterator[None]:
    """Keeps a file with the name of this process, locked as long as the block lasts."""
    host = socket.gethostname()
    path = layout.holders / f"{host}-{os.getpid()}"
    try:
        layout.holders.mkdir(exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot make folder {layout.holders}: {error.strerror}; mend that") from error
    # No other process has this name as long as this one lives; what is there is of one that is gone.
    descriptor = _own(path)
    try:
        # The command alone: its arguments may hold a store's secrets.
        said = {"host": host, "pid": os.getpid(), "command": command}
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(said).encode(), 0)
        yield
    finally:
        with suppress(OSError):  # it is stale then, and who meets it removes it
            path.unlink()
        os.close(descriptor)


def _own(path: Path) -> int:
    """Opens and locks a file of this process; again, where another took it for stale before it was locked."""
    while True:
        descriptor = _opened(path)
        if _take(descriptor, fcntl.LOCK_EX) and os.fstat(descriptor).st_nlink:
            return descriptor
        os.close(descriptor)


def holders(layout: Layout) -> list[Holder]:
    """Returns who works on an index now, this process aside; removes names of processes that are gone."""
    found = []
    for path in sorted(layout.holders.glob("*")) if layout.holders.is_dir() else []:
        with suppress(OSError):  # it went away between two looks
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                if _take(descriptor, fcntl.LOCK_EX):
                    path.unlink()
                elif (holder := _read(descriptor)) is not None and not _is_self(holder):
                    found.append(holder)
            finally:
                os.close(descriptor)
    return found


def _read(descriptor: int) -> Holder | None:
    try:
        said = json.loads(os.pread(descriptor, 1 << 16, 0))
        return Holder(str(said["host"]), int(said["pid"]), str(said["command"]))
    except (KeyError, TypeError, ValueError):  # it is being written
        return None


def _is_self(holder: Holder) -> bool:
    return holder.pid == os.getpid() and holder.host == socket.gethostname()


class Claims:
    """The units that this process embeds; a context manager.

    A claim is held until it is given back, the block ends, or the process does. Whoever commits a unit gives
    its claim back then: the receipt speaks for it, and the kernel looks at all locks on the file for each new
    one (10,000 of them, spread, made a claim take 290 µs in place of 2).
    """

    def __init__(self, layout: Layout) -> None:
        self._path = layout.claims
        self._file = -1

    def __enter__(self) -> "Claims":
        self._file = _opened(self._path)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def take(self, unit: int) -> bool:
        """Claims a unit; returns whether no other process has it."""
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, unit)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                return False
            raise StorageError(
                f"cannot lock {self._path}: {error.strerror}; use a file system with record locks"
            ) from error
        return True

    def give(self, unit: int) -> None:
        """Gives a claim back."""
        fcntl.lockf(self._file, fcntl.LOCK_UN, 1, unit)
