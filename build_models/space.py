"""Tells a full disk from other failures: libraries that write graphs hide it behind errors of their own.

A failed serialization, an exporter's `RuntimeError` and a file that ends too early all mean the same once the
disk is full. No bytes are written here.
"""

import errno
import resource
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def explain(error: BaseException, folder: Path, parent: Path) -> str | None:
    """Returns what a failure says of the space left, or None where it says nothing of it.

    Args:
        error: What was raised while files were written in `folder`; its causes are looked at too.
        folder: Where they were written; it must be there still.
        parent: What people call that place.
    """
    limit = _largest_allowed()
    sizes = [file.stat().st_size for file in folder.rglob("*") if file.is_file()]
    if limit is not None and any(size >= limit for size in sizes):
        return f"a file may have at most {limit} bytes here (see ulimit -f); raise that limit"
    codes = {cause.errno for cause in _causes(error) if isinstance(cause, OSError)}
    free = shutil.disk_usage(folder).free
    # Less than the largest file made so far: the next one like it would not fit, and did not.
    if codes.isdisjoint(_FULL) and free >= max(sizes, default=1):
        return None
    temporary = Path(tempfile.gettempdir())
    return (
        f"no space left: {parent} has {free >> 20} MiB, {temporary} has "
        f"{shutil.disk_usage(temporary).free >> 20} MiB; free some space or give another --out"
    )


def _largest_allowed() -> int | None:
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    return None if limit == resource.RLIM_INFINITY else limit


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
