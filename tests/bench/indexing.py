"""What an index costs beside its embeddings: growth from 2,000 to 100,000 documents, kills, updates.

The documents are distinct passages of 22 words, cut from MedQuAD's answers: short ones, so that whatever the
indexer does for each document shows. One pool serves all runs; each run is `python -m indexer run`, as a user
starts it.
"""

import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.bench.corpus import SEED
from tests.bench.environments import HOME
from tests.bench.systems import Pool

SMALL, LARGE = 2_000, 100_000
PASSAGE_WORDS = 22  # some 31 tokens; MedQuAD holds enough of these for all parts
ROUNDS = 3  # of the small runs before and after the large one
RESUMED = 10_000  # documents of the runs that are killed; arbitrary
KILLS = 4
UPDATED_FILES = 10
UPDATED_SHARE = 0.01  # of the texts of the file that is written again
_POLL_SECONDS = 0.02


@dataclass(frozen=True)
class Run:
    """One command: seconds from start to end and in its stages, memory at its peak, CPU time of its own.

    Attributes:
        seconds: Wall time of the whole command.
        stages: Wall seconds by stage, as the command's summary says.
        embedded: Documents that were embedded, or copied.
        reused: Those that were copied, because their text was known.
        peak_bytes: Resident memory at its peak.
        cpu_seconds: User and system time of the command, the pool's not in it.
    """

    seconds: float
    stages: dict[str, float]
    embedded: int
    reused: int
    peak_bytes: int
    cpu_seconds: float

    @property
    def rate(self) -> float:
        """Documents embedded a second of the stage that embeds."""
        return self.embedded / self.stages["embed"]


def passages(source: Path, count: int) -> list[str]:
    """Returns `count` different passages of a corpus' texts, chosen by the seed."""
    found: dict[str, None] = {}
    for text in pq.read_table(source, columns=["text"])["text"].to_pylist():
        words = text.split()
        for start in range(0, len(words) - PASSAGE_WORDS + 1, PASSAGE_WORDS):
            found[" ".join(words[start : start + PASSAGE_WORDS])] = None
    if len(found) < count:
        raise SystemExit(f"error: {source} holds {len(found):,} passages, {count:,} are wanted")
    return random.Random(SEED).sample(list(found), count)


def write(texts: Sequence[str], path: Path, first: int = 0) -> Path:
    """Writes texts as a corpus whose ids count from `first`; returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ids = [f"p{number}" for number in range(first, first + len(texts))]
    pq.write_table(pa.table({"doc_id": ids, "text": texts}), path, row_group_size=10_000)
    return path


class Bench:
    """Runs the indexer's command against one pool."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.folder = HOME / "out" / "indexing"
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)

    def start(self, inputs: str | Path, name: str) -> "subprocess.Popen[bytes]":
        """Starts a run on an index of that name."""
        options = ["--input", str(inputs), "--output", str(self.folder / name), "--text-columns", "text"]
        log = (self.folder / f"{name}.log").open("ab")
        with log:
            return subprocess.Popen(
                [
                    *(sys.executable, "-m", "indexer", "run", *options),
                    *("--worker", self._pool.address, "--summary", str(self.folder / f"{name}.json")),
                ],
                stdout=log,
                stderr=log,
            )

    def run(self, inputs: str | Path, name: str, *, fresh: bool = True) -> Run:
        """Runs to the end; with `fresh` on a new index."""
        if fresh:
            shutil.rmtree(self.folder / name, ignore_errors=True)
        started = time.perf_counter()
        process = self.start(inputs, name)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"error: the indexer failed; it says why in {self.folder / name}.log")
        summary = json.loads((self.folder / f"{name}.json").read_text(encoding="utf-8"))
        return Run(
            seconds,
            summary["seconds"],
            summary["embedded"],
            summary["reused"],
            usage.ru_maxrss * 1024,
            usage.ru_utime + usage.ru_stime,
        )

    def run_killed(self, inputs: Path, name: str, units: int, kills: int) -> float:
        """Runs to the end with `kills` SIGKILLs, spread evenly over the units; returns the seconds of all."""
        shutil.rmtree(self.folder / name, ignore_errors=True)
        started = time.perf_counter()
        for kill in range(1, kills + 1):
            process = self.start(inputs, name)
            receipts = self.folder / name / "units"
            while len(list(receipts.glob("*.receipt.json"))) < kill * units // (kills + 1):
                if process.poll() is not None:
                    raise SystemExit(f"error: the indexer ended early; see {self.folder / name}.log")
                time.sleep(_POLL_SECONDS)
            process.send_signal(signal.SIGKILL)
            process.wait()
        self.run(inputs, name, fresh=False)
        return time.perf_counter() - started


def measure(bundle: Path, source: Path, large: int = LARGE, rounds: int = ROUNDS) -> dict[str, Any]:
    """Returns the figures of all parts; takes some 12 minutes on two cores at the default size."""
    texts = passages(source, large + RESUMED)
    home = HOME / "indexing"
    small = write(texts[:SMALL], home / "small.parquet")
    whole = write(texts[:large], home / "large.parquet")
    resumed = write(texts[large:], home / "resumed.parquet")
    pool = Pool(bundle)
    try:
        bench = Bench(pool)
        bench.run(small, "warm")
        growth = _growth(bench, small, whole, large, rounds)
        return growth | _resume(bench, resumed) | _update(bench, texts[large:], home / "updated")
    finally:
        pool.close()


def _growth(bench: Bench, small: Path, whole: Path, large: int, rounds: int) -> dict[str, Any]:
    print(f"{SMALL:,} documents, {large:,}, and {SMALL:,} again", flush=True)
    before = [bench.run(small, "small") for _ in range(rounds)]
    grown = bench.run(whole, "large")
    after = [bench.run(small, "small") for _ in range(rounds)]
    nothing = bench.run(whole, "large", fresh=False)
    return {
        "small": [asdict(run) | {"rate": run.rate} for run in (*before, *after)],
        "large": asdict(grown) | {"rate": grown.rate},
        "growth": grown.rate / statistics.median(run.rate for run in (*before, *after)),
        "nothing_left": asdict(nothing),
        "committed": _committed(bench.folder / "large"),
    }


def _committed(index: Path) -> list[float]:
    """Returns when each unit was committed, in seconds since the first, rising."""
    times = sorted(path.stat().st_mtime for path in (index / "units").glob("*.receipt.json"))
    return [moment - times[0] for moment in times]


def _resume(bench: Bench, corpus: Path) -> dict[str, Any]:
    print(f"{KILLS} kills in {RESUMED:,} documents", flush=True)
    undisturbed = bench.run(corpus, "undisturbed").seconds
    units = len(list((bench.folder / "undisturbed" / "units").glob("*.receipt.json")))
    killed = bench.run_killed(corpus, "killed", units, KILLS)
    again = bench.run(corpus, "undisturbed").seconds
    same = _tree(bench.folder / "killed") == _tree(bench.folder / "undisturbed")
    return {"resume": {"undisturbed": [undisturbed, again], "killed": killed, "kills": KILLS, "same": same}}


def _tree(index: Path) -> dict[str, bytes]:
    files = (path for path in index.rglob("*") if path.is_file())
    names = {path.relative_to(index).as_posix(): path for path in files}
    return {name: path.read_bytes() for name, path in names.items() if not name.startswith(".")}


def _update(bench: Bench, texts: Sequence[str], folder: Path) -> dict[str, Any]:
    print(f"an update of one file of {UPDATED_FILES}", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    rows = len(texts) // UPDATED_FILES
    for number in range(UPDATED_FILES):
        first = number * rows
        write(texts[first : first + rows], folder / f"{number}.parquet", first)
    first_run = bench.run(folder / "*.parquet", "updated")
    changed = [f"{text} again" if at < UPDATED_SHARE * rows else text for at, text in enumerate(texts[:rows])]
    write(changed, folder / "0.parquet")
    update = bench.run(folder / "*.parquet", "updated", fresh=False)
    return {"update": {"first": asdict(first_run), "update": asdict(update), "rows": rows}}
