"""Runs `python -m indexer` in a world that fails: `faults.py FAULT [NUMBER] -- run …`.

The product has no hook for this: the system calls that it uses are wrapped here, in a process of the test's.

    kill N    SIGKILL to this process just before its N-th durable step (fsync, rename, unlink)
    full N    the disk takes N more bytes of files being written, then every write is refused with ENOSPC
    tell 0    prints `step NAME` on stdout before each durable step, and waits for nothing
"""

import errno
import io
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

STEPS = ("fsync", "replace", "rename", "unlink")


def _wrap_steps(before: Callable[[str], None]) -> None:
    for name in STEPS:
        real = getattr(os, name)

        def wrapped(*arguments: Any, _real: Any = real, _name: str = name, **options: Any) -> Any:
            before(" ".join([_name, *(str(value) for value in arguments[-1:])]))
            return _real(*arguments, **options)

        setattr(os, name, wrapped)


def _kill_before(step: int) -> None:
    done = 0

    def before(_: str) -> None:
        nonlocal done
        done += 1
        if done == step:
            os.kill(os.getpid(), signal.SIGKILL)

    _wrap_steps(before)


def _fill_after(size: int) -> None:
    left = size

    class Full(io.FileIO):
        def write(self, data: Any) -> int:
            nonlocal left
            left -= len(data)
            if left < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(data) or 0

    real = io.open

    def opened(file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        if str(file).endswith(".tmp") and "w" in mode:
            return io.BufferedWriter(Full(file, mode))
        return real(file, mode, *arguments, **options)

    io.open = opened


def _tell(_: int) -> None:
    def before(step: str) -> None:
        sys.stdout.write(f"step {step}\n")
        sys.stdout.flush()

    _wrap_steps(before)


def main() -> int:
    """Sets up the fault and runs the command line behind `--`."""
    fault, number = sys.argv[1], int(sys.argv[2])
    {"kill": _kill_before, "full": _fill_after, "tell": _tell}[fault](number)
    sys.argv = ["indexer", *sys.argv[sys.argv.index("--") + 1 :]]
    sys.path.insert(0, str(Path(__file__).parents[3]))
    from indexer.__main__ import main as indexer_main

    return indexer_main()


if __name__ == "__main__":
    sys.exit(main())
