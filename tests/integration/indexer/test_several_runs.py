"""Several runs on one index at once: each unit is embedded by one, and all end with the same bytes."""

import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from build_models.quality.docstrings import Docstring

ROWS, UNIT_ROWS = 240, 12
COMMITS = "units/{:06d}.receipt.json"


@pytest.fixture
def command(
    tiny_bundle: Path, some_docstrings: list[Docstring], start_worker: Callable[..., Any], tmp_path: Path
) -> list[str | Path]:
    """Makes an index of 20 units with two rejected rows."""
    texts = [docstring.text for docstring in some_docstrings[:ROWS]]
    texts[3] = texts[100] = ""
    ids = [f"d{number}" for number in range(ROWS)]
    table = pa.table({"doc_id": ids, "title": [""] * ROWS, "text": texts})
    pq.write_table(table, tmp_path / "corpus.parquet", row_group_size=50)
    address = start_worker(tiny_bundle, "--processes", "1").address
    return [
        "run", "--input", tmp_path / "corpus.parquet", "--worker", address, "--unit-rows", str(UNIT_ROWS),
    ]  # fmt: skip


def _committed(out: str) -> Counter[str]:
    """Returns how often a process put each receipt in its place."""
    steps = (line for line in out.splitlines() if line.startswith("step re") and ".receipt.json" in line)
    return Counter(line.rpartition("/")[2] for line in steps if not line.endswith(".tmp"))


def _until_a_commit(process: "subprocess.Popen[str]") -> str:
    """Reads what a process says until it is about to commit a unit."""
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if ".receipt.json" in line:
            return said
    raise AssertionError(f"it ended: {process.communicate()}")


def test_three_runs_share_the_units_and_one_is_killed(
    command: list[str | Path], indexer: Any, tmp_path: Path
) -> None:
    """Each row is committed once and no unit twice; who is left does the killed one's, and all end well."""
    alone, index = tmp_path / "alone", tmp_path / "index"
    indexer.run(*command, "--output", alone)
    runs = [indexer.start(*command, "--output", index, fault="tell 0") for _ in range(3)]
    before = _until_a_commit(runs[0])
    runs[0].send_signal(signal.SIGKILL)
    left, _ = runs[0].communicate(timeout=60)
    commits = _committed(before + left)
    for process in runs[1:]:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        assert f"documents  {ROWS - 2} embedded" in out
        commits += _committed(out)
    assert indexer.tree(index) == indexer.tree(alone)
    # Its last commit may have been announced and not made; any other unit was made by one process.
    assert sorted(commits) == sorted(Path(COMMITS.format(unit)).name for unit in range(ROWS // UNIT_ROWS))
    assert sum(commits.values()) <= len(commits) + 1


def test_others_are_refused_by_name_and_a_run_waits(
    command: list[str | Path], indexer: Any, tmp_path: Path
) -> None:
    """While a run embeds, `delete` and `compact` are told its pid; a second run waits, and both end well."""
    index = tmp_path / "index"
    first = indexer.start(*command, "--output", index, fault="tell 0")
    _until_a_commit(first)
    first.send_signal(signal.SIGSTOP)
    try:
        for refused in (["delete", "--ids", "d1"], ["compact"]):
            error = indexer.run(refused[0], "--index", index, *refused[1:], code=1).stderr
            assert f"another run (pid {first.pid}) works on {index}" in error
        second = indexer.start(*command, "--output", index)
        assert second.stderr is not None
        next(line for line in second.stderr if "embedded by others" in line)
    finally:
        first.send_signal(signal.SIGCONT)
    for process in (first, second):
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    indexer.run("verify", "--index", index)
