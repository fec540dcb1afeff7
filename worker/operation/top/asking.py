"""Asks servers again and again, each in a thread of its own, so that one that is away delays no other.

Guarantees: `post` is called from the threads, for each server one call after the other; after `stop` returns
no more.
"""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from embedpool.v1 import admin_service_pb2 as admin
from embedpool.v1 import admin_service_pb2_grpc, embedding_service_pb2_grpc
from embedpool.v1 import embedding_service_pb2 as pb
from worker.errors import WorkerError
from worker.operation.dial import Dial
from worker.operation.top.snapshot import (
    ClassSnapshot,
    Distribution,
    ModelFacts,
    ProcessSnapshot,
    Snapshot,
)

Post = Callable[[str, Snapshot | WorkerError], None]


class Asker:
    """Asks every `every` seconds; a context manager.

    Args:
        dials: The servers.
        every: Seconds between two answers of a server.
        post: Takes the address, and what the server says or why it does not.
    """

    def __init__(self, dials: tuple[Dial, ...], every: float, post: Post) -> None:
        self._dials, self._every, self._post = dials, every, post
        self._stopped = threading.Event()
        self._channels: set[grpc.Channel] = set()
        self._threads = ThreadPoolExecutor(max(1, len(dials)), thread_name_prefix="top")

    def __enter__(self) -> Self:
        self._asked = [self._threads.submit(self._follow, dial) for dial in self._dials]
        return self

    def __exit__(self, *_: object) -> None:
        """Stops; answers that are under way are no longer waited for."""
        self._stopped.set()
        for channel in list(self._channels):
            channel.close()
        self._threads.shutdown()
        for one in self._asked:
            one.result()

    def _follow(self, dial: Dial) -> None:
        while not self._stopped.is_set():
            try:
                # A new channel after each failure: an old one would wait ever longer before it tries again.
                with dial.channel() as channel:
                    self._channels.add(channel)
                    try:
                        self._ask_until_it_fails(dial, channel)
                    finally:
                        self._channels.discard(channel)
            except WorkerError as error:
                if not self._stopped.is_set():
                    self._post(dial.target, error)
            except ValueError:  # gRPC's word for a channel that is closed
                if not self._stopped.is_set():
                    raise
            self._stopped.wait(self._every)

    def _ask_until_it_fails(self, dial: Dial, channel: grpc.Channel) -> None:
        model: pb.GetModelResponse | None = None
        while not self._stopped.is_set():
            statistics = dial.ask(
                admin_service_pb2_grpc.AdminServiceStub(channel).GetStatistics, admin.GetStatisticsRequest()
            )
            if model is None or model.fingerprint != statistics.model_fingerprint:
                stub = embedding_service_pb2_grpc.EmbeddingServiceStub(channel)
                model = dial.ask(stub.GetModel, pb.GetModelRequest())
            health = dial.ask(health_pb2_grpc.HealthStub(channel).Check, health_pb2.HealthCheckRequest())
            name = health_pb2.HealthCheckResponse.ServingStatus.Name(health.status)
            self._post(dial.target, snapshot_of(name, model, statistics))
            self._stopped.wait(self._every)


def snapshot_of(health: str, model: pb.GetModelResponse, said: admin.GetStatisticsResponse) -> Snapshot:
    """Returns what a server says, as domain types."""
    return Snapshot(
        health=health,
        model=ModelFacts(model.name, model.dim, model.recipe),
        uptime=said.uptime_seconds,
        fingerprint=said.model_fingerprint,
        generation=said.generation,
        open_streams=said.open_streams,
        queries=_class(said.queries, said.query_bytes_in_flight),
        documents=_class(said.documents, said.document_bytes_in_flight),
        processes=tuple(
            ProcessSnapshot(one.slot, one.pid, one.state, one.runs, one.restarts, one.proportional_bytes)
            for one in said.processes
        ),
        ends=dict(said.process_ends),
    )


def _class(one: admin.ClassStatistics, bytes_in_flight: int) -> ClassSnapshot:
    return ClassSnapshot(
        texts=dict(one.texts),
        tokens=one.tokens,
        waiting=one.waiting,
        bytes_in_flight=bytes_in_flight,
        queue=_distribution(one.queue_seconds),
        run=_distribution(one.run_seconds),
    )


def _distribution(one: Any) -> Distribution:
    return Distribution(tuple(one.bounds), tuple(one.counts))
