"""Files that are there whole or not at all, also after a power cut.

Guarantees: a reader never sees half a file; when `durable_stream` returns, the file and its name are on disk.
Assumes: temp file and target lie in one folder, so that the rename is atomic; one writer (see `lock`).
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from indexer.errors import StorageError

TEMPORARY = ".tmp"  # put behind the name of a file that is being written


@contextmanager
def durable_stream(path: Path, check: Callable[[Path], None] | None = None) -> Iterator[BinaryIO]:
    """Opens a file for writing that appears under its name only when the block ends well.

    Args:
        path: The file; its folder exists.
        check: Called with the temp file, durable by then, before it gets its name; it may raise.

    Raises:
        StorageError: The file system refused; nothing is left of the attempt.
    """
    temporary = path.with_name(path.name + TEMPORARY)
    try:
        with temporary.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        if check is not None:
            check(temporary)
        temporary.replace(path)
        _sync_folder(path.parent)
    except BaseException as error:
        # The first error is the one to tell; where not even this works, the next attempt overwrites the file.
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise StorageError(
                f"cannot write {path}: {error.strerror or error}; nothing committed is lost: "
                "mend that, then run the same command to go on"
            ) from error
        raise


def write_durable(path: Path, data: bytes | memoryview) -> None:
    """Writes a whole file; raises StorageError as `durable_stream` does."""
    with durable_stream(path) as stream:
        stream.write(data)


def make_folder(path: Path) -> None:
    """Makes a folder and its missing parents, durably; raises StorageError."""
    if path.is_dir():
        return
    if path.parent != path:
        make_folder(path.parent)
    try:
        path.mkdir(exist_ok=True)
        _sync_folder(path.parent)
    except OSError as error:
        raise StorageError(
            f"cannot make folder {path}: {error.strerror}; choose another place or mend that"
        ) from error


def remove(path: Path) -> None:
    """Deletes a file, durably; none is fine. Raises StorageError."""
    try:
        path.unlink()
        _sync_folder(path.parent)
    except FileNotFoundError:
        return
    except OSError as error:
        raise StorageError(f"cannot delete {path}: {error.strerror}; mend that, then run again") from error


def remove_folder(path: Path) -> None:
    """Deletes an empty folder, durably; none is fine. Raises StorageError."""
    try:
        path.rmdir()
        _sync_folder(path.parent)
    except FileNotFoundError:
        return
    except OSError as error:
        raise StorageError(f"cannot delete {path}: {error.strerror}; mend that, then run again") from error


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
