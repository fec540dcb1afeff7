"""A server whose only process is stopped, so that what comes waits; and its counts."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc

from embedpool.v1 import admin_service_pb2 as admin
from embedpool.v1 import admin_service_pb2_grpc

SECONDS = 60.0
# One process, and nobody who takes it for hung while a test has it stopped.
ONE_PROCESS = ("--processes", "1", "--hang-seconds", "600", "--run-seconds", "600")


class Counts:
    """What a server counts."""

    def __init__(self, server: Any) -> None:
        self._channel = grpc.insecure_channel(server.address)
        self._stub = admin_service_pb2_grpc.AdminServiceStub(self._channel)

    def now(self) -> admin.GetStatisticsResponse:
        """Returns the counts of this moment."""
        counts: admin.GetStatisticsResponse = self._stub.GetStatistics(
            admin.GetStatisticsRequest(), timeout=SECONDS
        )
        return counts

    def until(self, what: Callable[[admin.GetStatisticsResponse], object]) -> admin.GetStatisticsResponse:
        """Asks until something holds; fails when it does not in a minute."""
        end = time.monotonic() + SECONDS
        while not what(counts := self.now()):
            assert time.monotonic() < end, counts
        return counts


@contextmanager
def counts_of(server: Any) -> Iterator[Counts]:
    """Asks a server for its counts."""
    counts = Counts(server)
    try:
        yield counts
    finally:
        counts._channel.close()


@contextmanager
def stopped(server: Any) -> Iterator[None]:
    """Stops the server's only process; it goes on afterwards."""
    (child,) = server.child_pids()
    os.kill(child, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(child, signal.SIGCONT)


def is_running(counts: admin.GetStatisticsResponse) -> bool:
    """Tells whether the only process holds a run."""
    return [process.state for process in counts.processes] == ["running"]
