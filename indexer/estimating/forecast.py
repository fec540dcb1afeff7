"""What an index of N documents takes on M machines. Pure: figures that were measured in, figures out.

Assumes that pools add up: they share nothing, and a run sends each what it takes. What one process does alone
(planning, building the FAISS index) does not get shorter with machines.
"""

import math
from dataclasses import dataclass

from indexer.estimating.rates import Rate
from indexer.estimating.sizes import FileSizes

_BLOCK = 4096  # bytes in which file systems give out space; usual for ext4 and XFS


@dataclass(frozen=True)
class Observation:
    """What was measured.

    Attributes:
        processes: Compute processes of the pools.
        documents: Documents a second of all of them, texts that were answered.
        vectors_each: Vectors of a document that has some.
        rejected: Share of rows that have none.
        unsent: Share of rows that were rejected before they reached a pool.
        sizes: Of files.
        driver_seconds: CPU time of a run for each document that is sent.
    """

    processes: int
    documents: Rate
    vectors_each: float
    rejected: float
    unsent: float
    sizes: FileSizes
    driver_seconds: float


@dataclass(frozen=True)
class Volume:
    """How much there is to do, and what it leaves.

    Attributes:
        documents: Rows of the inputs.
        sent: Texts that pools embed or refuse.
        rejects: Rows without a vector.
        vectors: Vectors.
        units: Units.
        files: Files below `units/` and `rejects/`.
        unit_bytes: Files of units.
        receipt_bytes: Receipts.
        reject_bytes: Files of rejects.
        plan_bytes: The plan.
        slack_bytes: What a file system of 4 KiB blocks adds to all of these.
    """

    documents: int
    sent: int
    rejects: int
    vectors: int
    units: int
    files: int
    unit_bytes: int
    receipt_bytes: int
    reject_bytes: int
    plan_bytes: int
    slack_bytes: int

    @property
    def bytes(self) -> int:
        """Bytes of all files but the FAISS index."""
        return self.unit_bytes + self.receipt_bytes + self.reject_bytes + self.plan_bytes


@dataclass(frozen=True)
class Machines:
    """What some machines take; times in seconds.

    Attributes:
        machines: How many.
        cores: Cores of all of them, a process each.
        documents: Documents a second.
        embed: Embedding, mean and the ends of the interval: (mean, shortest, longest).
        alone: What one process does however many there are: the FAISS index.
        drivers: Runs that it takes to feed them, each a core.
    """

    machines: int
    cores: int
    documents: Rate
    embed: tuple[float, float, float]
    alone: float
    drivers: int

    @property
    def total(self) -> tuple[float, float, float]:
        """Seconds in all: mean, shortest, longest."""
        mean, low, high = self.embed
        return mean + self.alone, low + self.alone, high + self.alone

    @property
    def core_hours(self) -> float:
        """Cores times hours until the end."""
        return self.cores * self.total[0] / 3600


def unit_count(documents: int, file_rows: tuple[int, ...], unit_rows: int) -> int:
    """Returns the units of so many rows, in files as large as these: each file ends with a short one.

    Exact for as many rows as the files have or fewer; further files are like these, over and over.
    """
    whole = sum(file_rows)
    rounds, rest = divmod(documents, whole) if whole else (0, 0)
    units = rounds * sum(math.ceil(rows / unit_rows) for rows in file_rows)
    for rows in file_rows:
        units += math.ceil(min(rows, rest) / unit_rows)
        rest -= min(rows, rest)
    return units


def volume(seen: Observation, documents: int, file_rows: tuple[int, ...], unit_rows: int) -> Volume:
    """Returns what so many documents are and leave, if they are like those that were measured."""
    sizes = seen.sizes
    rejects = round(documents * seen.rejected)
    vectors = round((documents - rejects) * seen.vectors_each)
    units = unit_count(documents, file_rows, unit_rows)
    # A unit has a file of rejects unless all its rows are good.
    with_rejects = 0
    if units and rejects:
        spared = (1 - seen.rejected) ** (documents / units) if seen.rejected < 1 else 0.0
        with_rejects = min(rejects, math.ceil(units * (1 - spared)))
    files = 2 * units + with_rejects
    return Volume(
        documents=documents,
        sent=round(documents * (1 - seen.unsent)),
        rejects=rejects,
        vectors=vectors,
        units=units,
        files=files,
        unit_bytes=round(units * sizes.unit + vectors * sizes.vector),
        receipt_bytes=round(units * sizes.receipt),
        reject_bytes=round(with_rejects * sizes.rejects + rejects * sizes.reject),
        plan_bytes=round(sizes.plan + units * sizes.planned),
        slack_bytes=files * _BLOCK // 2,
    )


def on_machines(seen: Observation, much: Volume, machines: int, cores_each: int, alone: float) -> Machines:
    """Returns what some machines take, one process a core; `alone` seconds are the same for any number."""
    cores = machines * cores_each
    rate = seen.documents.times(cores / seen.processes)
    embed = (much.sent / rate.mean, much.sent / rate.high, much.sent / rate.low)
    drivers = max(1, math.ceil(rate.mean * seen.driver_seconds))
    return Machines(machines, cores, rate, embed, alone, drivers)


def machines_within(
    seen: Observation, much: Volume, seconds: float, cores_each: int, alone: float
) -> int | None:
    """Returns the fewest machines that are done in time, by the slow end of the interval; None for none."""
    left = seconds - alone
    if left <= 0:
        return None
    needed = much.sent / seen.documents.low * seen.processes / left
    found = max(1, math.ceil(needed / cores_each))
    # Rounding may leave one too few: what is said must hold by the same sum that is printed.
    while on_machines(seen, much, found, cores_each, alone).total[2] > seconds:
        found += 1
    return found
