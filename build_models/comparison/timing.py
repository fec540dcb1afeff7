"""Times systems in turns on one CPU, so that a busy machine slows all of them alike.

A round gives every system the same block of queries; each query is computed once by each. What a query
took on the CPU's own clock stands beside what it took on the wall: where they differ, others were running.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from build_models.progress import progress
from build_models.quality.speed import one_cpu

BATCH = 32  # queries of a round, and of a batch where a system takes batches; the usual size in its library
# Wall over CPU time from which the machine was busy with something else; arbitrary.
BUSY = 1.2

Run = Callable[[NDArray[np.int64]], None]  # computes the vectors or tags of ids `[queries, tokens]`


class Precision(StrEnum):
    """What a row of the table computes with; its first name in the table."""

    PYTORCH_FP32 = "PyTorch FP32"
    ONNX_FP32 = "ONNX FP32"
    ONNX_INT8 = "ONNX INT8"


@dataclass(frozen=True)
class System:
    """Something that computes queries.

    Attributes:
        name: Of its row.
        precision: What it computes with.
        model_bytes: Size of its model file or files, bytes.
        ways: Name of a way to run it to that way; the fastest counts.
        queries: The token ids that it is timed with, int64 `[queries, tokens]`.
    """

    name: str
    precision: Precision
    model_bytes: int
    ways: Mapping[str, Run]
    queries: NDArray[np.int64]


@dataclass(frozen=True)
class Timing:
    """What one query takes on one core, without tokenizing: medians over rounds.

    Attributes:
        milliseconds: On the wall clock.
        cpu_milliseconds: On the clock of the thread that computes.
        way: The fastest way to run it.
    """

    milliseconds: float
    cpu_milliseconds: float
    way: str

    @property
    def busy(self) -> bool:
        """Whether the machine was computing something else meanwhile."""
        return self.milliseconds > BUSY * self.cpu_milliseconds


def time_systems(systems: Sequence[System], label: str) -> list[Timing]:
    """Returns the timing of each system; all must run on the calling thread and have as many queries."""
    rounds = range(0, len(systems[0].queries), BATCH)
    seconds: dict[tuple[int, str], list[tuple[float, float]]] = {
        (place, way): [] for place, system in enumerate(systems) for way in system.ways
    }
    with one_cpu(), progress(f"timing {label}", len(rounds), "rounds") as advance:
        for place, way in seconds:
            _timed(systems[place], way, 0)  # the first run of a shape also allocates
        for turn, start in enumerate(rounds):
            # Back and forth: none always runs behind the same neighbour.
            for place, way in list(seconds)[:: 1 if turn % 2 == 0 else -1]:
                seconds[place, way].append(_timed(systems[place], way, start))
            advance(1)
    return [
        min(
            (_timing(way, seconds[place, way]) for way in system.ways),
            key=lambda timing: timing.cpu_milliseconds,
        )
        for place, system in enumerate(systems)
    ]


def _timed(system: System, way: str, start: int) -> tuple[float, float]:
    """Returns wall and CPU seconds of one query, mean over the block that begins at `start`."""
    block = system.queries[start : start + BATCH]
    run = system.ways[way]
    wall, cpu = time.perf_counter(), time.thread_time()
    run(block)
    cpu, wall = time.thread_time() - cpu, time.perf_counter() - wall
    return wall / len(block), cpu / len(block)


def _timing(way: str, seconds: Sequence[tuple[float, float]]) -> Timing:
    wall, cpu = zip(*seconds, strict=True)
    return Timing(1000 * statistics.median(wall), 1000 * statistics.median(cpu), way)
