"""Writes a bundle whole or not at all: made in a hidden folder beside its place, then moved there."""

import ctypes
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from build_models.errors import GateError, OutputError
from build_models.space import explain
from worker.bundle import MANIFEST

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def check_output(out: Path, *, force: bool, mark: str = MANIFEST, kind: str = "bundle") -> None:
    """Refuses a place that is taken, before any work is done.

    Args:
        out: The place.
        force: Whether what is there may be replaced, if it is of the kind.
        mark: Name of a file that every folder of the kind has.
        kind: What is to be written, for messages.

    Raises:
        OutputError: Something of another kind is there, or one of the kind and `force` is not set.
    """
    if not out.exists() and not out.is_symlink():
        return
    if not (out / mark).is_file():
        raise OutputError(f"{out} exists and is no {kind}; give another --out or remove it yourself")
    if not force:
        raise OutputError(f"{out} is a {kind} already; give --force to replace it, or another --out")


@contextmanager
def workspace(out: Path, needed_bytes: int) -> Iterator[Path]:
    """Makes a folder on the file system of `out`, and removes what is left in it afterwards.

    Raises:
        OutputError: It cannot be made, there is too little space left, or the work inside ran out of space:
            whatever a library made of that, it is said here.
    """
    parent = out.absolute().parent
    prefix = f".{out.name}.building-"
    try:
        parent.mkdir(parents=True, exist_ok=True)
        _remove_left_over(parent, prefix)
        folder = Path(tempfile.mkdtemp(prefix=f"{prefix}{os.getpid()}-", dir=parent))
    except OSError as error:
        raise OutputError(f"cannot write in {parent} ({error.strerror}); give another --out") from error
    try:
        _check_space(folder, parent, needed_bytes)
        yield folder
    except (GateError, OutputError):
        raise
    except Exception as error:
        if reason := explain(error, folder, parent):
            raise OutputError(reason) from error
        if isinstance(error, OSError):
            raise OutputError(f"cannot write in {parent} ({error.strerror or error})") from error
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _check_space(folder: Path, parent: Path, needed_bytes: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise OutputError(
            f"{parent} has {free >> 20} MiB left, this build needs about {needed_bytes >> 20}; "
            "free some space or give another --out"
        )


def publish(folder: Path, out: Path) -> None:
    """Moves a finished folder to its place, durably; what was there is gone only once the new one is there.

    Raises:
        OutputError: The move failed; what was there is there still.
    """
    try:
        _sync(folder)
        if out.exists():
            _exchange(folder, out)
        else:
            folder.rename(out)
        _sync_folder(out.absolute().parent)
    except OSError as error:
        raise OutputError(f"cannot move what was made to {out} ({error.strerror})") from error


def move_files(folder: Path, kept: Path) -> None:
    """Moves finished files into a folder that may hold others; each is there whole or not at all."""
    kept.mkdir(parents=True, exist_ok=True)
    for file in sorted(folder.iterdir()):
        file.replace(kept / file.name)


def _remove_left_over(parent: Path, prefix: str) -> None:
    """Removes the folders of builds that were killed: those named after a process that is gone."""
    for folder in parent.iterdir():
        if not folder.name.startswith(prefix):
            continue
        process = folder.name.removeprefix(prefix).split("-")[0]
        if process.isdecimal() and not Path("/proc", process).exists():
            shutil.rmtree(folder, ignore_errors=True)


def _exchange(folder: Path, out: Path) -> None:
    """Swaps two folders in one step, so that a reader of `out` finds a whole bundle at every moment."""
    library = ctypes.CDLL(None, use_errno=True)
    failed = library.renameat2(
        _AT_FDCWD, os.fsencode(folder), _AT_FDCWD, os.fsencode(out), ctypes.c_uint(_RENAME_EXCHANGE)
    )
    if not failed:
        return
    # A file system that cannot swap: two steps, with the old one kept until the new one is in place.
    old = folder.with_name(folder.name + ".old")
    out.rename(old)
    try:
        folder.rename(out)
    except OSError:
        old.rename(out)
        raise
    shutil.rmtree(old)


def _sync(folder: Path) -> None:
    for file in folder.iterdir():
        with file.open("rb") as stream:
            os.fsync(stream.fileno())
    _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
