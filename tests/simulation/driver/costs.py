"""What a run's own work costs, measured with its own code: plans, units, receipts, claims, texts seen.

CPU time, so that other work on the machine counts little; commits also by the clock, because they wait for
the disk, of which the shortest of several is taken.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import numpy as np

from indexer.config import PlanConfig
from indexer.documents import HASH_BYTES
from indexer.embedding.reuse import SeenTexts
from indexer.engines.claiming import claimed
from indexer.plan import InputFile, Model, Plan, Unit, make_plan
from indexer.store.durable import make_folder
from indexer.store.layout import Layout
from indexer.store.ledger import (
    Receipt,
    commit_unit,
    committed,
    freeze_plan,
    load_plan,
    sha256,
    source_digest,
)
from indexer.store.lock import Claims

_T = TypeVar("_T")

MODEL = Model("f" * 64, "four", 384, normalized=True)
FILE_ROWS, GROUP_ROWS = 1_000_000, 100_000  # of the inputs that are made up
_VECTOR_BYTES = 1_560  # of a unit's file for each row, of 384 float32
_COMMITS = 8  # of which the quickest counts
_CLAIMS = 200  # that are timed

# Claims every other unit up to a number, then holds them until its stdin closes.
_OTHER = """
import sys
from pathlib import Path
from indexer.store.layout import Layout
from indexer.store.lock import Claims
with Claims(Layout(Path(sys.argv[1]))) as claims:
    for unit in range(0, 2 * int(sys.argv[2]), 2):
        claims.take(unit)
    print("claimed", flush=True)
    sys.stdin.read()
"""


@dataclass(frozen=True)
class PlanCosts:
    """Of a plan of so many units: CPU seconds, bytes of its file, bytes of memory when it is loaded."""

    documents: int
    units: int
    make: float
    write: float
    load: float
    file_bytes: int
    memory_bytes: int


@dataclass(frozen=True)
class FolderCosts:
    """Of an index of so many committed units, for each unit: CPU seconds.

    Attributes:
        units: How many.
        read: Reading its receipt (`committed`), which a run does at its start and at its end.
        draw: Claiming it and giving it back, as a run does with units that others have committed.
        digest: Its part in the question whether the FAISS index is fresh.
        memory: Bytes of its receipt in memory.
    """

    units: int
    read: float
    draw: float
    digest: float
    memory: float


@dataclass(frozen=True)
class Commit:
    """One unit made durable: rows, CPU seconds of it all, and the shortest time by the clock."""

    rows: int
    cpu: float
    clock: float


@contextmanager
def scratch(place: Path | None = None) -> Iterator[Layout]:
    """Makes an empty index folder for a while."""
    with TemporaryDirectory(prefix="embedpool-driver-", dir=place) as folder:
        layout = Layout(Path(folder))
        for one in (layout.units, layout.rejects):
            make_folder(one)
        yield layout


def inputs(documents: int) -> list[InputFile]:
    """Returns files that hold so many documents."""
    files = []
    for number, start in enumerate(range(0, documents, FILE_ROWS)):
        rows = min(FILE_ROWS, documents - start)
        groups = tuple(min(GROUP_ROWS, rows - first) for first in range(0, rows, GROUP_ROWS))
        files.append(InputFile(f"/data/part-{number:05d}.parquet", 1 << 30, 10**18, groups))
    return files


def plan_costs(documents: int, unit_rows: int) -> PlanCosts:
    """Makes, writes and loads a plan."""
    with scratch() as layout:
        made, make = _timed(lambda: make_plan(inputs(documents), PlanConfig(unit_rows=unit_rows), MODEL))
        _, write = _timed(lambda: freeze_plan(layout, made))
        before = _memory()
        loaded, load = _timed(lambda: load_plan(layout))
        held = max(0, _memory() - before)
        size = layout.plan.stat().st_size
    return PlanCosts(documents, len(loaded.units), make, write, load, size, held)


def receipt_of(unit: Unit, content: bytes | memoryview) -> Receipt:
    """Returns a receipt as a run writes it, for a unit's file of this content."""
    return Receipt(
        unit=unit, fingerprint=MODEL.fingerprint, vectors=unit.rows, documents=unit.rows, rejects={},
        tokens=128 * unit.rows, truncated=0, unit_sha256=sha256(content), unit_bytes=len(content),
    )  # fmt: skip


def commit_costs(rows: int) -> Commit:
    """Writes units of so many rows on the disk of the system's temporary folder."""
    content = np.random.default_rng(0).bytes(rows * _VECTOR_BYTES)
    clocks, cpu = [], 0.0
    with scratch() as layout:
        for number in range(_COMMITS):
            started = time.perf_counter()
            receipt = receipt_of(Unit(number, 0, rows * number, rows, rows * number), content)
            cpu += _timed(lambda: commit_unit(layout, receipt, content, b""))[1]  # noqa: B023  called at once
            clocks.append(time.perf_counter() - started)
    return Commit(rows, cpu / _COMMITS, min(clocks))


def filled(layout: Layout, units: int) -> Plan:
    """Makes an index of so many committed units, without waiting for the disk."""
    plan = make_plan([InputFile("/a", 1, 1, (units,))], PlanConfig(unit_rows=1), MODEL)
    for unit in plan.units:
        layout.unit(unit.number).write_bytes(b"unit")
        layout.receipt(unit.number).write_text(receipt_of(unit, b"unit").to_json())
    return plan


def folder_costs(units: int) -> FolderCosts:
    """Reads and draws all units of an index that is complete."""
    with scratch() as layout:
        plan = filled(layout, units)
        before = _memory()
        receipts, read = _timed(lambda: committed(layout, plan))
        held = max(0, _memory() - before)
        with Claims(layout) as claims:
            _, draw = _timed(lambda: list(claimed(plan.units, layout, claims, lambda _unit, _receipt: None)))
        _, digest = _timed(lambda: source_digest(list(receipts.values())))
    return FolderCosts(units, read / units, draw / units, digest / units, held / units)


def claim_costs(held: int) -> float:
    """Returns the CPU seconds of a claim while another process holds so many that do not touch."""
    with scratch() as layout:
        other = subprocess.Popen(
            [sys.executable, "-c", _OTHER, str(layout.root), str(held)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        with other, Claims(layout) as claims:
            assert other.stdout is not None
            other.stdout.readline()

            def claim() -> None:
                for number in range(_CLAIMS):
                    claims.take(10**9 + number)
                    claims.give(10**9 + number)

            return _timed(claim)[1] / _CLAIMS


def seen_costs(texts: int) -> tuple[float, float]:
    """Returns CPU seconds and bytes of each text, when so many are noted."""
    seen, rng = SeenTexts(), np.random.default_rng(0)

    def note() -> None:
        for first in range(0, texts, 10_000):
            names = rng.bytes(10_000 * HASH_BYTES)
            for at in range(10_000):
                seen.first(names[at * HASH_BYTES : (at + 1) * HASH_BYTES], first + at)

    return _timed(note)[1] / texts, seen.nbytes / texts


def _timed(call: Callable[[], _T]) -> tuple[_T, float]:
    started = time.process_time()
    result = call()
    return result, time.process_time() - started


def _memory() -> int:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    (line,) = [line for line in lines if line.startswith("VmRSS")]
    return 1024 * int(line.split()[1])
