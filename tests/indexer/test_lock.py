"""Locks of an index, with real processes that hold them and die."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from indexer.store.layout import Layout
from indexer.store.lock import BusyError, Claims, Holder, exclusive, holders, shared

_HOLD = """
import sys, pathlib
from indexer.store import lock
from indexer.store.layout import Layout
layout = Layout(pathlib.Path(sys.argv[1]))
with getattr(lock, sys.argv[2])(layout, sys.argv[3]), lock.Claims(layout) as claims:
    for unit in sys.argv[4:]:
        assert claims.take(int(unit))
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def _holder(root: Path, kind: str, command: str, *units: int) -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(root), kind, command, *map(str, units)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def _kill(process: "subprocess.Popen[str]") -> None:
    process.send_signal(signal.SIGKILL)
    process.wait(30)


def test_a_refusal_names_who_holds_the_index(tmp_path: Path) -> None:
    """The message has command and pid of the holder; one that is killed frees the lock and its name."""
    layout = Layout(tmp_path)
    with _holder(tmp_path, "exclusive", "compact") as other:
        with (
            pytest.raises(BusyError, match=rf"another compact \(pid {other.pid}\) works on {tmp_path}"),
            exclusive(layout, "run", lambda _: None),
        ):
            pass
        _kill(other)
    with exclusive(layout, "run"):
        assert holders(layout) == []
        assert [path.name for path in layout.holders.iterdir()] == [f"{os.uname().nodename}-{os.getpid()}"]
    assert list(layout.holders.iterdir()) == []


def test_sharers_meet_and_keep_others_out(tmp_path: Path) -> None:
    """Two share an index; who wants it alone is told of both, and gets it when they are gone."""
    layout = Layout(tmp_path)
    with _holder(tmp_path, "shared", "run") as one, _holder(tmp_path, "shared", "run") as two:
        with shared(layout, "run"):
            pids = {holder.pid for holder in holders(layout)}
        assert pids == {one.pid, two.pid}
        refused = pytest.raises(BusyError, match=r"another run \(pid \d+\), run \(pid \d+\) works")
        with refused, exclusive(layout, "delete"):
            pass
        _kill(one)
        _kill(two)
    with exclusive(layout, "delete"):
        pass


def test_a_run_waits_for_a_run(tmp_path: Path) -> None:
    """Who may wait is told once who holds the index, and goes on when that ends."""
    layout = Layout(tmp_path)
    told: list[list[Holder]] = []
    with _holder(tmp_path, "exclusive", "run") as other:

        def on_wait(found: list[Holder]) -> None:
            told.append(found)
            _kill(other)

        with exclusive(layout, "run", on_wait):
            pass
    assert [[holder.pid for holder in found] for found in told] == [[other.pid]]


def test_a_unit_has_one_claim(tmp_path: Path) -> None:
    """What another process claimed cannot be claimed until it gives it back or dies; other units can."""
    layout = Layout(tmp_path)
    with _holder(tmp_path, "shared", "run", 3, 5) as other, Claims(layout) as claims:
        assert [claims.take(unit) for unit in range(7)] == [True, True, True, False, True, False, True]
        _kill(other)
        assert claims.take(3)
        assert claims.take(5)
        claims.give(3)
        assert claims.take(3)
