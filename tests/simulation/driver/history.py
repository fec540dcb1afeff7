"""A run with any number of workers, as events on a virtual clock. Pure: the same load gives the same history.

A driver is what one `run` is: it reads and takes answers on one core (Python runs one thread at a time),
writes units one after the other, and lets only so many be open. Drivers share a folder, whose disk makes so
many files durable in a second. A worker computes batches one after the other and has some waiting.
"""

from collections import deque
from dataclasses import dataclass, replace
from heapq import heappop, heappush

BATCH = 64  # documents of a batch, `FlowConfig.batch_items`
WINDOW = 6  # batches under way to a pool of two processes, `client.dispatch`
FSYNCS = 4  # of a commit: unit and receipt, and their folder for each


@dataclass(frozen=True)
class Load:
    """What works; times in seconds.

    Attributes:
        workers: Pools of two cores.
        drivers: Runs, each with its share of the workers.
        rate: Documents a second of a worker.
        document_cpu: CPU time of a driver for each document, reading and taking its answer.
        commit_cpu: CPU time of a driver for each unit.
        fsync: The disk's time to make a file durable.
        parallel_fsyncs: How many it does at once.
        unit_rows: Rows of a unit.
        open_units: Units that a driver has open at most.
        seconds: Virtual time, of which the first third does not count.
    """

    workers: int
    drivers: int = 1
    rate: float = 60.0
    document_cpu: float = 200e-6
    commit_cpu: float = 20e-3
    fsync: float = 2e-3
    parallel_fsyncs: int = 1
    unit_rows: int = 2048
    open_units: int = 8
    seconds: float = 300.0

    def scaled(self, workers: int, drivers: int) -> "Load":
        """Returns the same with other numbers of workers and drivers."""
        return replace(self, workers=workers, drivers=drivers)


@dataclass(frozen=True)
class History:
    """What happened after the first third.

    Attributes:
        documents: Documents a second that workers embedded.
        cpu: Share of its time that the busiest driver's core was busy.
        disk: Share of its time that the disk was busy.
        idle: Share of the workers' time that they had nothing to do.
    """

    documents: float
    cpu: float
    disk: float
    idle: float

    @property
    def limit(self) -> str:
        """What kept it from more."""
        found = {"driver's core": self.cpu, "disk": self.disk}
        name = max(found, key=lambda one: found[one])
        return name if found[name] > 0.9 else "open units" if self.idle > 0.05 else "workers"


class _Server:
    """Something that does one thing after the other, or several at once; counts how long it was busy."""

    def __init__(self, places: int = 1) -> None:
        self._free = [0.0] * places
        self._busy: list[tuple[float, float]] = []
        self.places = places

    def serve(self, now: float, seconds: float) -> float:
        """Returns when what comes now is done."""
        start = max(now, heappop(self._free))
        heappush(self._free, start + seconds)
        self._busy.append((start, start + seconds))
        return start + seconds

    def share(self, start: float, stop: float) -> float:
        """Returns the share of a time in which it was busy."""
        busy = sum(max(0.0, min(b, stop) - max(a, start)) for a, b in self._busy)
        return busy / (stop - start) / self.places


class _Worker:
    """A pool: when it will have computed what it has."""

    def __init__(self) -> None:
        self.until = 0.0


class _Driver:
    def __init__(self, workers: int) -> None:
        self.cpu = _Server()
        self.written = 0.0  # when its last unit is on disk: it writes them one after the other
        self.waiting: deque[int] = deque()  # units of batches that no worker has
        # Places for batches, of each worker in turn, so that all get some.
        self.places = deque([_Worker() for _ in range(workers)] * WINDOW)
        self.left: dict[int, int] = {}  # batches of open units that are not answered
        self.next_unit = 0


class Simulation:
    """Plays a load."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._batches = -(-load.unit_rows // BATCH)
        self._rows = load.unit_rows / self._batches
        self._disk = _Server(load.parallel_fsyncs)
        shares = [
            load.workers // load.drivers + (at < load.workers % load.drivers) for at in range(load.drivers)
        ]
        self._drivers = [_Driver(share) for share in shares]
        self._events: list[tuple[float, int, str, int, int, _Worker | None]] = []
        self._count = 0
        self._answered: list[float] = []

    def play(self) -> History:
        """Returns what happens."""
        load, start = self._load, self._load.seconds / 3
        for number in range(load.drivers):
            self._read(0.0, number)
        while self._events and self._events[0][0] < load.seconds:
            now, _, what, driver, unit, worker = heappop(self._events)
            getattr(self, f"_{what}")(now, driver, unit, worker)
        span = load.seconds - start
        done = sum(1 for time in self._answered if time >= start) * self._rows
        return History(
            documents=done / span,
            cpu=max(one.cpu.share(start, load.seconds) for one in self._drivers),
            disk=self._disk.share(start, load.seconds),
            idle=max(0.0, 1 - done / span / (load.workers * load.rate)),
        )

    def _at(self, time: float, what: str, driver: int, unit: int, worker: "_Worker | None" = None) -> None:
        self._count += 1
        heappush(self._events, (time, self._count, what, driver, unit, worker))

    def _read(self, now: float, number: int) -> None:
        """Reads a unit, if one may be open more, and hands its batches out."""
        driver = self._drivers[number]
        if len(driver.left) >= self._load.open_units:
            return
        unit, driver.next_unit = driver.next_unit, driver.next_unit + 1
        driver.left[unit] = self._batches
        # Half of a document's CPU time is spent before it goes, half when its answer comes.
        done = driver.cpu.serve(now, self._load.unit_rows * self._load.document_cpu / 2)
        self._at(done, "unit_read", number, unit)

    def _unit_read(self, now: float, number: int, unit: int, _worker: object) -> None:
        driver = self._drivers[number]
        driver.waiting.extend([unit] * self._batches)
        self._hand_out(now, number)
        self._read(now, number)

    def _hand_out(self, now: float, number: int) -> None:
        driver = self._drivers[number]
        while driver.waiting and driver.places:
            worker, unit = driver.places.popleft(), driver.waiting.popleft()
            worker.until = max(now, worker.until) + self._rows / self._load.rate
            self._at(worker.until, "computed", number, unit, worker)

    def _computed(self, now: float, number: int, unit: int, worker: "_Worker") -> None:
        self._answered.append(now)
        done = self._drivers[number].cpu.serve(now, self._rows * self._load.document_cpu / 2)
        self._at(done, "taken", number, unit, worker)

    def _taken(self, now: float, number: int, unit: int, worker: "_Worker") -> None:
        """The driver has an answer: the worker gets the next batch, and the unit may be complete."""
        driver = self._drivers[number]
        driver.places.append(worker)
        self._hand_out(now, number)
        driver.left[unit] -= 1
        if not driver.left[unit]:
            ready = max(driver.cpu.serve(now, self._load.commit_cpu), driver.written)
            for _ in range(FSYNCS):
                ready = self._disk.serve(ready, self._load.fsync)
            driver.written = ready
            self._at(ready, "committed", number, unit)

    def _committed(self, now: float, number: int, unit: int, _worker: object) -> None:
        del self._drivers[number].left[unit]
        self._read(now, number)
