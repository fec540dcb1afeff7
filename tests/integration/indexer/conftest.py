"""Runs the indexer as a user would: the command line, in a process of its own."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

INDEXER_SECONDS = 120.0


class Indexer:
    """Runs `python -m indexer` as a user would; `fault` wraps it as `faults.py` tells."""

    def __init__(self) -> None:
        self.processes: list[subprocess.Popen[str]] = []

    def start(self, *arguments: str | Path, fault: str = "") -> "subprocess.Popen[str]":
        """Starts a command with pipes for stdout and stderr; it is ended with the test."""
        launcher = [str(Path(__file__).with_name("faults.py")), *fault.split(), "--"]
        command = [sys.executable, *(launcher if fault else ["-m", "indexer"]), *map(str, arguments)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.processes.append(process)
        return process

    def run(
        self, *arguments: str | Path, fault: str = "", code: int = 0
    ) -> "subprocess.CompletedProcess[str]":
        """Runs a command to its end and checks its exit code, and that a failure is one line."""
        process = self.start(*arguments, fault=fault)
        out, err = process.communicate(timeout=INDEXER_SECONDS)
        assert process.returncode == code, f"exit code {process.returncode}, stderr:\n{err}"
        assert "Traceback" not in err, err
        if code > 0:
            assert [line.startswith("error: ") for line in err.splitlines()][-1:] == [True], err
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    @staticmethod
    def tree(index: Path) -> dict[str, bytes]:
        """Returns every file of an index by its path in there; locks are no part of it."""
        files = (path for path in index.rglob("*") if path.is_file())
        names = {path.relative_to(index).as_posix(): path for path in sorted(files)}
        return {name: path.read_bytes() for name, path in names.items() if not name.startswith(".")}


@pytest.fixture
def indexer() -> Iterator[Indexer]:
    """Runs `python -m indexer`; what still runs at the end of the test is killed."""
    runner = Indexer()
    yield runner
    for process in runner.processes:
        if process.poll() is None:
            process.kill()
        process.communicate()
