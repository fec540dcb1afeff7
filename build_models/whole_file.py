"""Single files that are written whole or not at all, and asked for before the work that fills them."""

import os
import tempfile
from pathlib import Path

from build_models.errors import OutputError


def check_place(path: Path) -> None:
    """Refuses a place that cannot be written, before any work is done.

    Raises:
        OutputError: The folder is missing or cannot be written, or `path` is a folder.
    """
    folder = path.absolute().parent
    if path.is_dir():
        raise OutputError(f"{path} is a folder; give the name of a file in it")
    if not folder.is_dir():
        raise OutputError(f"cannot write {path}: there is no folder {folder}; make it or give another file")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"cannot write {path}: no permission to write in {folder}; give another file")


def write_whole(path: Path, data: bytes) -> None:
    """Writes a file, durably; what was there stays until the new one is complete.

    Raises:
        OutputError: It cannot be written, or the disk is full; nothing of it is left.
    """
    check_place(path)
    temporary: Path | None = None
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.absolute().parent)
        temporary = Path(name)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(0o666 & ~_umask())  # mkstemp grants its owner alone
        temporary.replace(path)
    except OSError as error:
        raise OutputError(f"cannot write {path} ({error.strerror}); give another file") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
