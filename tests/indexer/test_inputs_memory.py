"""How much memory reading takes, measured in a process of its own as the kernel counts it (VmHWM)."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

SECONDS = 120.0
MIB = 1 << 20
HUGE = 10 * MIB
LIMIT = 150_000  # rows that are read; a reader that loads whole row groups shows with the first

_READ = """
import json, sys
from pathlib import Path
from indexer.config import PlanConfig
from indexer.inputs import files, parquet
from indexer.plan import Model, make_plan

def peak():
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) << 10

def read(path, config):
    described, _ = files.describe([path], config)
    plan = make_plan(described, config, Model("f" * 64, "four", 4, False))
    files.check_ids(plan)
    chunks = parquet.read_chunks(described[0], "doc_id", config.text_columns, plan.units)
    return sum(len(chunk.ids) for chunk in chunks)

config = PlanConfig(text_columns=("title", "text"), limit=int(sys.argv[3]))
read(sys.argv[1], config)  # what imports and first calls take is no business of this test
before = peak()
print(json.dumps([read(sys.argv[2], config), peak() - before]))
"""


def _grown(folder: Path, path: Path) -> tuple[int, int]:
    """Returns the rows read of a file, and by how many bytes the process grew beyond reading a small one."""
    small = folder / "small.parquet"
    pq.write_table(pa.table({name: ["a"] for name in ("doc_id", "title", "text")}), small)
    done = subprocess.run(
        [sys.executable, "-c", _READ, small, path, str(LIMIT)],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    rows, grown = json.loads(done.stdout)
    return rows, grown


def _text(start: int, rows: int) -> pa.Array:
    numbers = pa.array(np.arange(start, start + rows)).cast(pa.string())
    return pc.binary_repeat(pc.binary_join_element_wise(numbers, "is a word", " "), 4)


def _write_a_million_rows(path: Path) -> int:
    """60 MB of text in one row group."""
    rows = 1_000_000
    ids = pa.array(np.arange(rows))
    table = pa.table({"doc_id": ids, "title": pa.repeat("title", rows), "text": _text(0, rows)})
    pq.write_table(table, path, row_group_size=rows)
    return rows


def _write_documents_of_10_mb(path: Path) -> int:
    """150 MB in one row group: huge documents behind each other among many small ones, a page for each."""
    texts = [os.urandom(HUGE // 2).hex() if 3000 <= n < 3015 else f"small {n}" for n in range(4000)]
    table = pa.table({"doc_id": np.arange(4000), "title": pa.repeat("title", 4000), "text": texts})
    pq.write_table(table, path, compression="none", use_dictionary=False, write_batch_size=1)
    return 4000


def _write_2000_columns(path: Path) -> int:
    """2,000 columns of numbers beside the three."""
    numbers = np.arange(1000)
    columns: dict[str, object] = {f"c{n}": numbers for n in range(2000)}
    texts = _text(0, 1000)
    pq.write_table(pa.table({"doc_id": numbers, "title": texts, "text": texts, **columns}), path)
    return 1000


def _dictionary(path: Path, *, stored: bool) -> int:
    """20,000 documents of 100 kB each, 2 GB, that are 40 different ones."""
    values = pa.array([os.urandom(50_000).hex() for _ in range(40)])
    texts = pa.DictionaryArray.from_arrays(pa.array(np.arange(20_000, dtype=np.int32) % 40), values)
    table = pa.table({"doc_id": np.arange(20_000), "title": pa.repeat("title", 20_000), "text": texts})
    pq.write_table(table, path, dictionary_pagesize_limit=64 * MIB, store_schema=stored)
    return 20_000


# By how much a process may grow, each stated with its reason.
_BUDGETS: dict[str, tuple[Callable[[Path], int], int]] = {
    "a_million_rows": (_write_a_million_rows, 64 * MIB),  # ids' hashes are 8 MB, read-ahead 1 MiB a column
    "documents_of_10_mb": (_write_documents_of_10_mb, 40 * HUGE),  # 16 rows, Arrow's and Python's
    "2000_columns": (_write_2000_columns, 64 * MIB),  # the footer itself
    "dictionary": (lambda path: _dictionary(path, stored=True), 96 * MIB),  # 4 MB in a few copies
    "dictionary_bare": (lambda path: _dictionary(path, stored=False), 64 * MIB),
}


@pytest.mark.parametrize("name", _BUDGETS)
def test_reading_stays_within_its_budget(name: str, tmp_path: Path) -> None:
    """Whatever a row group is like, a process grows by its budget at most, from footer to last row."""
    write, budget = _BUDGETS[name]
    rows = write(tmp_path / "large.parquet")
    read, grown = _grown(tmp_path, tmp_path / "large.parquet")
    print(f"{name}: grew by {grown / MIB:.0f} of {budget / MIB:.0f} MiB")  # noqa: T201 - shown when it fails
    assert read == min(rows, LIMIT)
    assert grown <= budget
