"""Runs the indexer as a user would: the command line, in a process of its own."""

import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.indexer.adapted import PROMPTS, Prompted

INDEXER_SECONDS = 120.0


class Indexer:
    """Runs `python -m indexer` as a user would; `fault` wraps it as `faults.py` tells.

    `hosts` is the file that it sees as /etc/hosts, also when that changes; that needs root.
    """

    def __init__(self) -> None:
        self.processes: list[subprocess.Popen[str]] = []

    def start(
        self, *arguments: str | Path, fault: str = "", hosts: Path | None = None
    ) -> "subprocess.Popen[str]":
        """Starts a command with pipes for stdout and stderr; it is ended with the test."""
        launcher = [str(Path(__file__).with_name("faults.py")), *fault.split(), "--"]
        command = [sys.executable, *(launcher if fault else ["-m", "indexer"]), *map(str, arguments)]
        if hosts is not None:
            mount = f'mount --bind {shlex.quote(str(hosts))} /etc/hosts && exec "$@"'
            command = ["unshare", "--mount", "sh", "-c", mount, "sh", *command]
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


@pytest.fixture(scope="module")
def prompted(
    make_model: Callable[..., Path],
    eval_data: Path,
    start_shared_worker: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Prompted:
    """A pool that serves a small model, in FP32, with prompts of its own for queries and for documents."""
    # Here, because torch takes seconds to import and most tests do without it.
    from build_models.config import BuildConfig
    from build_models.pipeline import build
    from build_models.quality.gate import Gate
    from build_models.recipes import parse_recipes

    folder = tmp_path_factory.mktemp("prompted")
    model = make_model(folder / "model", prompts=PROMPTS)
    gate = Gate(min_retention=0.5, min_bound=0, min_overlap=0)
    build(
        BuildConfig(
            model=str(model),
            out=folder / "bundle",
            recipes=parse_recipes("fp32"),
            eval_data=(eval_data,),
            gate=gate,
        )
    )
    return Prompted(start_shared_worker(folder / "bundle", "--processes", "1").address, model)
