"""How long a query takes at a pool: alone, and while a bulk stream keeps every process busy."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import grpc
import numpy as np

from embedpool.v1 import embedding_service_pb2_grpc
from examples.embed_documents import embed_lines
from examples.embed_query import embed


def percentiles(address: str, questions: Sequence[str]) -> dict[str, float]:
    """Returns p50 and p99 in milliseconds of one EmbedQuery a question, one after the other."""
    times = []
    with grpc.insecure_channel(address) as channel:
        stub = embedding_service_pb2_grpc.EmbeddingServiceStub(channel)
        embed(stub, questions[:1])  # opens the connection
        for question in questions:
            started = time.perf_counter()
            embed(stub, [question])
            times.append((time.perf_counter() - started) * 1000)
    return {"p50": float(np.percentile(times, 50)), "p99": float(np.percentile(times, 99))}


@contextmanager
def bulk_load(address: str, texts: Sequence[str]) -> Iterator[None]:
    """Streams the texts again and again while the block runs."""
    stopping = threading.Event()
    lines = [text.encode() for text in texts]

    def stream() -> None:
        with grpc.insecure_channel(address) as channel:
            stub = embedding_service_pb2_grpc.EmbeddingServiceStub(channel)
            while not stopping.is_set():
                embed_lines(stub, lines)

    thread = threading.Thread(target=stream)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()
