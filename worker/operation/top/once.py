"""One picture as text, for scripts and where no terminal is."""

import queue
import shutil
import time

from worker.errors import UnavailableError, WorkerError
from worker.operation.dial import Dial
from worker.operation.top.asking import Asker
from worker.operation.top.figures import glyphs_of
from worker.operation.top.frame import Canvas, frame, plain
from worker.operation.top.snapshot import Snapshot
from worker.operation.top.watched import Fleet, Watched


def one_frame(dials: tuple[Dial, ...], every: float, encoding: str) -> str:
    """Asks each server twice, `every` seconds apart, and returns the picture of what happened in between.

    Raises:
        UnavailableError: No server answers, or all refuse; the message is the first one's.
    """
    fleet = Fleet([Watched(dial.target) for dial in dials])
    servers = {server.target: server for server in fleet.servers}
    answers: queue.SimpleQueue[tuple[str, Snapshot | WorkerError]] = queue.SimpleQueue()
    latest = time.monotonic() + every + 2 * max(dial.timeout for dial in dials)
    with Asker(dials, every, lambda target, said: answers.put((target, said))):
        while any(one.interval is None and not one.away for one in fleet.servers):
            try:
                target, said = answers.get(timeout=max(0.0, latest - time.monotonic()))
            except queue.Empty:
                break
            if isinstance(said, Snapshot):
                servers[target].took(said)
            else:
                servers[target].lost(str(said))
    if not fleet.present:
        raise UnavailableError(fleet.servers[0].away)
    fleet.tick()
    columns = shutil.get_terminal_size((100, 0)).columns
    return plain(frame(fleet, Canvas(columns, None, glyphs_of(encoding), every)))
