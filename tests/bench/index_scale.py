"""FAISS indexes at scale: recall, queries/s, build time and memory of automatic choices and exact search.

The vectors are synthetic, with the spectrum of real ones: `python -m tests.bench.index_scale --vectors
1000000`.

Recipe. The 14,979 questions of MedQuAD, embedded by all-MiniLM-L6-v2 (INT8 bundle), have a mean of length
.533 and the covariance whose eigenvalues `_SPECTRUM` gives at some ranks; between them it is drawn straight
in logarithms. Vectors are normal with that mean and covariance, turned by a random rotation, and scaled to
unit length. Checked at 15,000 vectors with IVF384,Flat and 200 held-out ones: recall@10 with 16, 32, 64 and
128 lists is .77, .87, .95 and .99 for the real vectors and .67, .83, .94 and .99 for these. Real ones have
near copies, which make the first neighbours easier; these are as hard near .95, and harder below.

Queries go one after the other on one core, in CPU time; building uses every CPU that this process may use.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from io import RawIOBase
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexer.config import AUTO, Wishes
from indexer.errors import IndexerError
from indexer.index import faiss_build, index_rule, tuning
from indexer.index.ground_truth import Queries
from indexer.index.machine import usable_cpus
from indexer.index.memory_rule import as_size, parse_bytes
from indexer.index.recall import pick
from tests.bench.environments import HOME

_MEAN = 0.533
_RANKS = (1, 2, 3, 5, 8, 12, 18, 27, 40, 60, 90, 130, 180, 240, 300, 340, 370)
_SPECTRUM = (
    *(0.0471, 0.0409, 0.0308, 0.02, 0.0138, 0.0101, 0.00813, 0.0058, 0.00419, 0.003, 0.00191, 0.00114),
    *(0.000636, 0.000282, 9.79e-05, 5e-05, 2.85e-05),
)
_BLOCK = 10_000  # vectors made at once; part of the recipe, because each block has a seed of its own
_HITS = 10
_HEAD = (
    "index",
    "setting",
    f"recall@{_HITS}",
    "queries/s",
    "× Flat",
    "p50 ms",
    "p99 ms",
    "build s",
    "file",
    "memory",
)


class _Nowhere(RawIOBase):
    """Takes all bytes and keeps none."""

    def write(self, data: Any) -> int:
        return len(data)


def vectors(count: int, dim: int, seed: int) -> Iterator[NDArray[np.float32]]:
    """Yields `count` vectors in blocks, float32 `[at most _BLOCK, dim]`; the seed names them."""
    # Narrower vectors keep the first values of the spectrum, wider ones its last slope.
    ranks = np.log(np.arange(1, dim + 1))
    deviations = np.exp(np.interp(ranks, np.log(_RANKS), np.log(_SPECTRUM)) / 2)
    rotation, _ = np.linalg.qr(np.random.default_rng(dim).standard_normal((dim, dim)))
    spread = (deviations[:, None] * rotation).astype(np.float32)
    mean = (_MEAN * rotation[-1]).astype(np.float32)
    for number, start in enumerate(range(0, count, _BLOCK)):
        rng = np.random.default_rng([seed, number])
        made = mean + rng.standard_normal((min(_BLOCK, count - start), dim), dtype=np.float32) @ spread
        yield made / np.linalg.norm(made, axis=1, keepdims=True)


def store(path: Path, count: int, dim: int) -> None:
    """Writes the vectors to a file that is read piece by piece."""
    file = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(count, dim))
    filled = 0
    for block in vectors(count, dim, seed=1):
        file[filled : filled + len(block)] = block
        filled += len(block)
    file.flush()


def pieces(path: Path) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """Reads the file once: ids and vectors, in order."""
    stored = np.load(path, mmap_mode="r")
    for start in range(0, len(stored), _BLOCK):
        piece = np.asarray(stored[start : start + _BLOCK])
        yield np.arange(start, start + len(piece), dtype=np.int64), piece


def measure(key: str, path: Path, number: int, target: float) -> dict[str, Any]:
    """Builds and searches one index; returns its figures, times in seconds, memory in bytes.

    Runs in a process of its own: what an earlier index left to the allocator would hide what this one takes.
    """
    count, dim = np.load(path, mmap_mode="r").shape
    read = partial(pieces, path)
    before, started = _own_memory(), time.monotonic()
    index = faiss_build.build(key, dim, count, read, lambda _: None)
    seconds = time.monotonic() - started
    grown, size = _own_memory() - before, index.write(_Nowhere()).bytes  # type: ignore[arg-type]
    queries = Queries.foreign(np.concatenate(list(vectors(number, dim, seed=2))))
    evaluation = tuning.evaluate(index, queries, read, _HITS, enough=target)
    chosen = pick(evaluation.points, Wishes(None, target))
    return {
        "key": key,
        "build_seconds": seconds,
        "index_bytes": size,
        "memory_bytes": grown,
        "picked": asdict(chosen.point),
        "unmet": chosen.unmet,
        "points": [asdict(point) for point in evaluation.points],
    }


def _own_memory() -> int:
    """Returns this process's memory without mapped files, bytes."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    (line,) = [line for line in lines if line.startswith("RssAnon")]
    return 1024 * int(line.split()[1])


def keys(count: int, dim: int, target: float, asked: list[str]) -> Iterator[str]:
    """Yields exact search, then what was asked for, or else the choices for several wishes; prints why."""
    yield "IDMap,Flat"
    if asked:
        yield from asked
        return
    full = 4 * dim * count
    for wishes in (
        Wishes(None, target),
        Wishes(None, target, 3),
        Wishes(full),
        Wishes(full // 3),
        Wishes(full // 4),
        Wishes(full // 6),
    ):
        choice = index_rule.choose_key(AUTO, count, dim, wishes)
        print(choice.reason, file=sys.stderr, flush=True)
        yield choice.key


def row(found: dict[str, Any], flat: float) -> str:
    """Returns a line of the table; `flat` is exact search's queries/s."""
    point = found["picked"]
    setting = ", ".join(f"{name} {value}" for name, value in point["setting"].items()) or "exact"
    speed = point["queries_per_second"]
    return (
        f"| {found['key']} | {setting} | {point['recall']:.3f} | {speed:,.0f} | {speed / flat:.1f}× | "
        f"{point['p50_ms']:.2f} | {point['p99_ms']:.2f} | {found['build_seconds']:,.0f} | "
        f"{as_size(found['index_bytes'])} | {as_size(found['memory_bytes'])} |"
    )


def main() -> None:
    """Parses options, measures each index, prints a row as soon as it is known, and writes JSON."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.index_scale", description=__doc__)
    parser.add_argument("--vectors", type=int, default=50_000, help="how many (default: %(default)s)")
    parser.add_argument("--dim", type=int, default=384, help="values of each (default: %(default)s)")
    parser.add_argument("--queries", type=int, default=500, help="how many (default: %(default)s)")
    parser.add_argument("--target-recall", type=float, default=0.95, help="recall@10 (default: %(default)s)")
    parser.add_argument("--key", action="append", default=[], help="index to measure (default: auto choices)")
    parser.add_argument("--memory", help="memory for one more auto choice, as 500MB")
    parser.add_argument("--folder", type=Path, help="for the vectors (default: the system's temporary one)")
    options = parser.parse_args()
    count, dim, target = options.vectors, options.dim, options.target_recall
    asked = list(options.key)
    if options.memory:
        asked.append(index_rule.choose_key(AUTO, count, dim, Wishes(parse_bytes(options.memory))).key)
    cpus = usable_cpus()
    print(f"{count:,} × {dim}, {options.queries} queries, one core; built with {cpus} CPUs\n")
    print("| " + " | ".join(_HEAD) + " |\n" + "|---" * len(_HEAD) + "|", flush=True)
    results: list[dict[str, Any]] = []
    with (
        TemporaryDirectory(dir=options.folder) as folder,
        ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as processes,
    ):
        path = Path(folder) / "vectors.npy"
        store(path, count, dim)
        for key in dict.fromkeys(keys(count, dim, target, asked)):
            try:
                results.append(processes.submit(measure, key, path, options.queries, target).result())
            except IndexerError as error:
                raise SystemExit(f"error: {error}") from error
            print(row(results[-1], results[0]["picked"]["queries_per_second"]), flush=True)
    HOME.mkdir(exist_ok=True)
    found = {"vectors": count, "dim": dim, "queries": options.queries, "target": target, "indexes": results}
    (HOME / "index_scale.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
