"""How long a query takes at a pool: alone, and while a bulk stream keeps every process busy."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle

import grpc
import numpy as np

from embedpool.v1 import embedding_service_pb2 as pb
from embedpool.v1 import embedding_service_pb2_grpc
from indexer.client import Client


def sequential(address: str, questions: Sequence[str]) -> list[float]:
    """Returns milliseconds of one EmbedQuery a question, one after the other, with the plain stub."""
    times = []
    with grpc.insecure_channel(address) as channel:
        stub = embedding_service_pb2_grpc.EmbeddingServiceStub(channel)
        stub.EmbedQuery(pb.EmbedQueryRequest(texts=questions[:1]))  # opens the connection
        for question in questions:
            started = time.perf_counter()
            stub.EmbedQuery(pb.EmbedQueryRequest(texts=[question]))
            times.append((time.perf_counter() - started) * 1000)
    return times


def percentiles(address: str, questions: Sequence[str]) -> dict[str, float]:
    """Returns p50 and p99 in milliseconds of one EmbedQuery a question, one after the other."""
    times = sequential(address, questions)
    return {"p50": float(np.percentile(times, 50)), "p99": float(np.percentile(times, 99))}


@contextmanager
def bulk_load(address: str, texts: Sequence[str]) -> Iterator[None]:
    """Streams the texts again and again while the block runs."""
    stopping = threading.Event()

    def stream() -> None:
        with Client(address) as client:
            for _ in client.embed_documents(cycle(texts)):
                if stopping.is_set():
                    return

    thread = threading.Thread(target=stream)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()
