"""What the indexer holds while it embeds, in a process of its own, by the kernel's count."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from indexer.config import FlowConfig

MIB = 1 << 20
ROOT = Path(__file__).parents[3]
# What allocators keep beyond what is in use, and the reader's own pieces; measured to be about half of it.
SLACK = 48 * MIB

Measure = Callable[..., int]


@pytest.fixture(scope="module")
def address(start_shared_worker: Callable[..., Any], tiny_bundle: Path) -> str:
    """A pool that takes texts of 16 MiB."""
    limits = ("--max-text-bytes", str(16 * MIB), "--max-batch-bytes", str(16 * MIB))
    found: str = start_shared_worker(tiny_bundle, *limits).address
    return found


@pytest.fixture
def growth(address: str, tmp_path: Path) -> Measure:
    """Embeds a file and returns by how many bytes the peak passed that of embedding three short texts."""
    small = tmp_path / "small.parquet"
    pq.write_table(pa.table({"doc_id": ["a", "b", "c"], "text": ["one", "two", "three"]}), small)

    def measure(file: Path, unit_rows: int = 2048) -> int:
        mib = str(FlowConfig.unit_memory_bytes // MIB)
        script = str(Path(__file__).with_name("measure_memory.py"))
        output = tmp_path / "index"
        done = subprocess.run(
            [sys.executable, script, address, str(output), str(unit_rows), mib, str(small), str(file)],
            capture_output=True,
            text=True,
            timeout=120,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            check=False,
        )
        assert done.returncode == 0, done.stderr
        before, after = map(int, done.stdout.split())
        return after - before

    return measure


def test_documents_of_ten_mib_do_not_add_up(growth: Measure, tmp_path: Path) -> None:
    """Of 40 documents of 10 MiB only what is in flight is held, and a few copies of one on their way."""
    largest = 10 * MIB
    text = "the words of a long text " * (largest // 25)
    table = pa.table({"doc_id": [str(n) for n in range(40)], "text": [f"{n} {text}" for n in range(40)]})
    # A page is what a reader must take whole: here it holds one document.
    pq.write_table(table, tmp_path / "large.parquet", use_dictionary=False, write_batch_size=1)
    assert growth(tmp_path / "large.parquet") < FlowConfig.bytes_in_flight + 12 * largest + SLACK


def test_rows_of_a_large_unit_stay_in_their_budget(growth: Measure, tmp_path: Path) -> None:
    """A unit as large as the budget allows, in one row group, is read, held and written within the budget."""
    rows = 160_000
    table = pa.table({"doc_id": [str(n) for n in range(rows)], "text": ["one text for all"] * rows})
    pq.write_table(table, tmp_path / "rows.parquet", row_group_size=rows, use_dictionary=False)
    assert growth(tmp_path / "rows.parquet", unit_rows=rows) < FlowConfig.unit_memory_bytes + SLACK
