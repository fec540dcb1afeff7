"""A pool of one's own: `python -m worker serve` as a child on a Unix socket, for `--bundle`.

Guarantees: the child ends when the block ends, and also when this process is killed: it watches its stdin,
which the kernel closes.
"""

import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from indexer.errors import PoolError

_READY_SECONDS = 120.0  # to load the model in every process; generous, a wrong bundle fails at once
_STOP_SECONDS = 40.0  # above the worker's own deadline for draining
_KILL_SECONDS = 5.0  # after SIGTERM


@contextmanager
def private_pool(bundle: Path) -> Iterator[str]:
    """Starts a pool that serves a bundle and yields its address.

    Raises:
        PoolError: It did not come up; the message carries its own last words.
    """
    # A socket's path may have about 100 bytes, so it lies in the system's folder for temporary files.
    with (
        tempfile.TemporaryDirectory(prefix="embedpool-") as folder,
        (Path(folder) / "log").open("w+b") as log,
    ):
        command = [sys.executable, "-m", "worker", "serve", "--bundle", str(bundle)]
        command += ["--listen", f"unix:{folder}/pool.sock", "--stop-on-stdin-close"]
        # A session of its own: Ctrl-C reaches this process alone, which then ends the pool in order.
        child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, start_new_session=True
        )
        try:
            address = _ready_address(child, bundle, log)
            try:
                yield address
            except PoolError as error:
                if child.poll() is None:
                    raise
                raise PoolError(
                    f"the private pool ended (exit code {child.returncode}): {_last_words(log)}; {error}"
                ) from error
        finally:
            _stop(child)


def _ready_address(child: "subprocess.Popen[bytes]", bundle: Path, log: IO[bytes]) -> str:
    assert child.stdout is not None  # noqa: S101 - opened above
    line = _read_line(child.stdout.fileno(), time.monotonic() + _READY_SECONDS)
    word, _, address = line.partition(" ")
    if word != "ready" or not address:
        raise PoolError(f"the pool for bundle {bundle} did not start: {_last_words(log)}")
    return address


def _last_words(log: IO[bytes]) -> str:
    log.seek(0)
    words = log.read().decode(errors="replace").strip().splitlines()
    return words[-1].removeprefix("error: ") if words else "it said nothing"


def _read_line(stream: int, deadline: float) -> str:
    """Returns the first line that arrives, "" if none comes in time."""
    text = b""
    while not text.endswith(b"\n"):
        readable, _, _ = select.select([stream], [], [], max(0.0, deadline - time.monotonic()))
        piece = os.read(stream, 4096) if readable else b""
        if not piece:
            break
        text += piece
    return text.decode(errors="replace").strip()


def _stop(child: "subprocess.Popen[bytes]") -> None:
    for stream in (child.stdin, child.stdout):
        if stream is not None:
            stream.close()
    for end, seconds in ((None, _STOP_SECONDS), (child.terminate, _KILL_SECONDS)):
        if end is not None:
            end()
        try:
            child.wait(seconds)
        except subprocess.TimeoutExpired:
            continue
        return
    child.kill()
    child.wait()
