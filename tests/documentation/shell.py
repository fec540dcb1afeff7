"""One bash in one folder, that runs the commands of a page one after the other as readers type them.

Guarantees: jobs in the background go on beside later commands, as in a terminal, and end with the shell.
"""

import os
import selectors
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, cast

import psutil

from tests.documentation.addresses import Addresses
from tests.documentation.blocks import Command, matches

COMMAND_SECONDS = 240.0  # for the slowest of them on a crowded machine; waiting ends when it does
_END_SECONDS = 40.0
_MARK = "---end-of-command---"
ROOT = Path(__file__).resolve().parents[2]


class Shell:
    """A bash that waits for commands; close it.

    Args:
        folder: Where it starts.
        addresses: What stands for the addresses of the page.
        seconds: What a command may take.
    """

    def __init__(self, folder: Path, addresses: Addresses, seconds: float = COMMAND_SECONDS) -> None:
        self._seconds = seconds
        self._addresses = addresses
        self._steps = folder.parent / f"{folder.name}.steps"
        self._steps.mkdir()
        self._count = 0
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        self._bash = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],  # noqa: S607 - the reader's own
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=folder,
            env=environment,
        )
        self._out = cast("IO[bytes]", self._bash.stdout)
        self._rest = b""
        self._type("set -m")  # each job in a process group of its own, as in a terminal

    def run(self, command: Command, *, numbers_differ: bool = False) -> None:
        """Runs a command and compares exit code and output with what the page shows."""
        self._count += 1
        step = self._steps / f"{self._count}.sh"
        errors = self._steps / f"{self._count}.err"
        step.write_text(self._addresses.to_here(command.text) + "\n")
        self._type(f". {step} </dev/null 2>{errors}; printf '\\n%s %s\\n' {_MARK} $?")
        code, lines = self._read_until_end(command, numbers_differ=numbers_differ)
        said = self._addresses.to_page(errors.read_text(errors="replace"))
        told = f"$ {command.text}\n" + "\n".join(lines) + f"\n{said}"
        assert (code != 0) == command.fails, f"exit code {code} of\n{told}"
        if command.fails:
            lines += [line for line in said.splitlines() if line.startswith("error: ")]
        if command.expected:
            shown = "\n".join(command.expected)
            assert matches(command.expected, lines, numbers_differ=numbers_differ), (
                f"not {shown}\nbut\n{told}"
            )

    def close(self) -> None:
        """Ends all jobs and the shell."""
        self._type("kill -TERM $(jobs -p) 2>/dev/null; wait; exit")
        cast("IO[bytes]", self._bash.stdin).close()
        try:
            self._bash.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            shell = psutil.Process(self._bash.pid)
            for process in [*shell.children(recursive=True), shell]:
                process.kill()
            self._bash.wait()
        self._out.close()

    def _type(self, line: str) -> None:
        stdin = cast("IO[bytes]", self._bash.stdin)
        stdin.write(f"{line}\n".encode())
        stdin.flush()

    def _read_until_end(self, command: Command, *, numbers_differ: bool) -> tuple[int, list[str]]:
        """Returns exit code and lines; of a job in the background those that the page shows."""
        deadline = time.monotonic() + self._seconds
        code: int | None = None
        lines: list[str] = []
        while True:
            line = self._read_line(deadline)
            if line is None:
                raise AssertionError(f"no end within {self._seconds:g} s of\n$ {command.text}\n{lines}")
            if line.startswith(_MARK):
                code = int(line.split()[1])
                if lines and not lines[-1]:  # ours: output need not end with the end of a line
                    lines.pop()
            else:
                lines.append(self._addresses.to_page(line))
            shown = not command.expected or matches(command.expected, lines, numbers_differ=numbers_differ)
            if code is not None and (shown or not command.in_background):
                return code, lines

    def _read_line(self, deadline: float) -> str | None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._out, selectors.EVENT_READ)
            while b"\n" not in self._rest:
                if not selector.select(deadline - time.monotonic()):
                    return None
                read = os.read(self._out.fileno(), 65536)
                assert read, "the shell ended"
                self._rest += read
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode(errors="replace")
