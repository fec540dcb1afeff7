"""CPUs for the pools of several actors on one machine, none of them given twice.

Ray counts CPUs and does not bind anybody to them, while each process of a pool binds itself to one: two pools
that see the same CPUs would meet on them. Byte N of a file of this user is locked (POSIX record lock) by the
process whose pool has CPU N; the kernel frees it however that ends.

Assumes: one block at a time in a process; actors of one machine share its folder of temporary files.
"""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def own_cpus(count: int) -> Iterator[frozenset[int]]:
    """Takes `count` CPUs as long as the block lasts, and yields their numbers.

    Where fewer are free the rest is shared with others, which is slower and not wrong.
    """
    path = Path(tempfile.gettempdir()) / f"embedpool-cpus-{os.getuid()}"
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        usable = sorted(os.sched_getaffinity(0))
        taken: list[int] = []
        for cpu in usable:
            if len(taken) < count and _take(file, cpu):
                taken.append(cpu)
        taken += [cpu for cpu in usable if cpu not in taken][: max(0, count - len(taken))]
        yield frozenset(taken)
    finally:
        os.close(file)


@contextmanager
def starting_on(cpus: frozenset[int]) -> Iterator[None]:
    """Lets processes that this thread starts in the block run on these CPUs alone."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _take(file: int, cpu: int) -> bool:
    with suppress(BlockingIOError, PermissionError):
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, cpu)
        return True
    return False
