"""Memory and open descriptors of a server's processes over time, and kills; ends only its own processes."""

import contextlib
import os
import random
import signal
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from indexer.client import Client
from indexer.errors import PoolError

SAMPLE_SECONDS = 2.0


@dataclass
class Series:
    """Samples of one quantity: seconds since the start, and values."""

    seconds: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)


def processes_of(server: int, slots: dict[int, int]) -> dict[str, int]:
    """Returns the server and its descendants by name: "server", "slot N", "zygote N" for the others."""
    children = defaultdict(list)
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it ended while we looked
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                children[int(parent)].append(int(stat.parent.name))
    found, waiting, others = {"server": server}, sorted(children[server]), 0
    while waiting:
        pid = waiting.pop(0)
        waiting += sorted(children[pid])
        if pid in slots:
            found[f"slot {slots[pid]}"] = pid
        else:
            found[f"zygote {others}"] = pid
            others += 1
    return found


def sample(pid: int) -> dict[str, float]:
    """Returns RSS and PSS in bytes and open descriptors of a process; raises OSError when it is gone."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    sizes = {line.split(":")[0]: 1024.0 * int(line.split()[1]) for line in rollup[1:]}
    return {"RSS": sizes["Rss"], "PSS": sizes["Pss"], "descriptors": len(os.listdir(f"/proc/{pid}/fd"))}  # noqa: PTH208


class Watch:
    """Samples a server until it is stopped, and kills its compute processes if asked to.

    Args:
        server: Process id.
        address: What a client dials.
        kills_per_minute: SIGKILLs to one of its compute processes, drawn by chance; 0 for none.
    """

    def __init__(self, server: int, address: str, kills_per_minute: float) -> None:
        self.series: dict[tuple[str, str], Series] = defaultdict(Series)
        self.kills = 0
        self._server = server
        self._client = Client(address)
        self._kills_per_minute = kills_per_minute
        self._random = random.Random(3)

    def run(self, stop: threading.Event) -> None:
        """Works until the event; then closes its connection."""
        started = time.monotonic()
        with self._client:
            while not stop.wait(SAMPLE_SECONDS):
                seconds = time.monotonic() - started
                slots = self._slots()
                if not slots:
                    continue
                for name, pid in processes_of(self._server, slots).items():
                    with contextlib.suppress(OSError, KeyError):  # it ended while we looked
                        for quantity, value in sample(pid).items():
                            series = self.series[name, quantity]
                            series.seconds.append(seconds)
                            series.values.append(value)
                while self.kills < seconds / 60 * self._kills_per_minute:
                    self.kills += 1
                    self._kill(self._random.choice(sorted(slots)))

    def _slots(self) -> dict[int, int]:
        """Returns the compute processes as the server tells them: process id to slot."""
        try:
            (counted,) = self._client.statistics().values()
        except PoolError:
            return {}
        return {process.pid: process.slot for process in counted.processes if process.pid}

    def _kill(self, pid: int) -> None:
        # Through a descriptor, and only if it is the server's: the id may be another process's by now.
        with contextlib.suppress(OSError):
            descriptor = os.pidfd_open(pid)
            try:
                if pid in processes_of(self._server, {}).values():
                    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            finally:
                os.close(descriptor)
