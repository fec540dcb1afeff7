"""The HTTP door beside gRPC: what a query takes by each, and what batches get through; in turns, one server.

    python -m tests.bench.http_door --bundle .demo/bundle

A query is one question, asked when the one before was answered. Batches are of 64 texts, from four callers
at once. Clients are the plainest that each wire has: a stub, and `http.client`; OpenAI's package is shown
beside them. CPU time is that of the server's own process, without those that compute.
"""

import argparse
import base64
import http.client
import json
import os
import re
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import openai
from numpy.typing import NDArray

from embedpool.v1 import embedding_service_pb2 as pb
from embedpool.v1 import embedding_service_pb2_grpc
from tests.bench.corpus import questions
from tests.bench.environments import HOME
from tests.bench.peer_loop import texts_of
from tests.bench.systems import Pool

DATA = Path("../shared/data")
BATCH = 64
CALLERS = 4
SECONDS = 600.0
NAME = "served"

Ask = Callable[[Sequence[str]], NDArray[np.float32]]


@contextmanager
def by_grpc(pool: Pool, address: tuple[str, int]) -> Iterator[Ask]:
    """Asks by the stub: one text as a query, several as a stream of one batch."""
    with grpc.insecure_channel(pool.address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        stub = embedding_service_pb2_grpc.EmbeddingServiceStub(channel)

        def ask(texts: Sequence[str]) -> NDArray[np.float32]:
            if len(texts) == 1:
                vectors = stub.EmbedQuery(pb.EmbedQueryRequest(texts=texts), timeout=SECONDS).vectors
            else:
                batch = pb.EmbedDocumentsRequest(texts=[text.encode() for text in texts])
                (answer,) = stub.EmbedDocuments(iter([batch]), timeout=SECONDS)
                vectors = answer.vectors
            return np.frombuffer(vectors.data, np.float32).reshape(vectors.rows, vectors.dim)

        yield ask


def by_http(encoding: str) -> Callable[..., Any]:
    """Asks by the standard library's client, which reads JSON by the standard library too."""

    @contextmanager
    def connected(pool: Pool, address: tuple[str, int]) -> Iterator[Ask]:
        connection = http.client.HTTPConnection(*address, timeout=SECONDS)

        def ask(texts: Sequence[str]) -> NDArray[np.float32]:
            body = json.dumps({"model": NAME, "input": list(texts), "encoding_format": encoding})
            connection.request("POST", "/v1/embeddings", body, {"content-type": "application/json"})
            response = connection.getresponse()
            found = json.loads(response.read())
            assert response.status == 200, found
            rows = [one["embedding"] for one in found["data"]]
            if encoding == "float":
                return np.array(rows, np.float32)
            return np.stack([np.frombuffer(base64.b64decode(row), np.float32) for row in rows])

        try:
            yield ask
        finally:
            connection.close()

    return connected


@contextmanager
def by_openai(pool: Pool, address: tuple[str, int]) -> Iterator[Ask]:
    """Asks by OpenAI's package as it comes."""
    base_url = f"http://{address[0]}:{address[1]}/v1"
    with openai.OpenAI(base_url=base_url, api_key="none", timeout=SECONDS, max_retries=0) as client:

        def ask(texts: Sequence[str]) -> NDArray[np.float32]:
            answer = client.embeddings.create(model=NAME, input=list(texts))
            return np.array([one.embedding for one in answer.data], np.float32)

        yield ask


WAYS: dict[str, Callable[..., Any]] = {
    "gRPC": by_grpc,
    "HTTP, base64": by_http("base64"),
    "HTTP, float": by_http("float"),
    "openai package": by_openai,
}


def cpu_seconds(pid: int) -> float:
    """Returns the CPU time that a process has used, its children's left out."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def latency(pool: Pool, address: tuple[str, int], asked: Sequence[str], block: int = 50) -> None:
    """Prints milliseconds and CPU time of a query by each way, a block of questions each in turns."""
    times: dict[str, list[float]] = defaultdict(list)
    cpu: dict[str, float] = defaultdict(float)
    with ExitStack() as stack:
        asks = {name: stack.enter_context(way(pool, address)) for name, way in WAYS.items()}
        wanted = asks["gRPC"](asked[:1])
        for ask in asks.values():  # opens the connection
            np.testing.assert_array_equal(ask(asked[:1]), wanted)
        for turn, first in enumerate(range(0, len(asked), block)):
            for name in np.roll(list(asks), turn):
                before = cpu_seconds(pool.process.pid)
                for question in asked[first : first + block]:
                    started = time.perf_counter()
                    asks[name]([question])
                    times[name].append((time.perf_counter() - started) * 1000)
                cpu[name] += cpu_seconds(pool.process.pid) - before
    print(f"\n{len(asked)} queries, one after the other\n")
    print("| way | p50 ms | p99 ms | server CPU ms a query |\n|---|---|---|---|")
    for name, found in times.items():
        p50, p99 = np.percentile(found, [50, 99])
        print(f"| {name} | {p50:.2f} | {p99:.2f} | {1000 * cpu[name] / len(found):.2f} |")


def throughput(pool: Pool, address: tuple[str, int], title: str, texts: Sequence[str], rounds: int) -> None:
    """Prints texts/s of batches by each way, a pass over the texts each in turns."""
    batches = [texts[first : first + BATCH] for first in range(0, len(texts), BATCH)]
    rates: dict[str, list[float]] = defaultdict(list)
    cpu: dict[str, float] = defaultdict(float)
    for turn in range(rounds):
        for name in np.roll(list(WAYS), turn):
            with ExitStack() as stack, ThreadPoolExecutor(CALLERS) as threads:
                asks = [stack.enter_context(WAYS[name](pool, address)) for _ in range(CALLERS)]
                shares = [batches[number::CALLERS] for number in range(CALLERS)]
                before, started = cpu_seconds(pool.process.pid), time.perf_counter()
                jobs = [
                    threads.submit(lambda ask, share: [ask(batch) for batch in share], ask, share)
                    for ask, share in zip(asks, shares, strict=True)
                ]
                for job in jobs:
                    job.result()
                rates[name].append(len(texts) / (time.perf_counter() - started))
                cpu[name] += cpu_seconds(pool.process.pid) - before
    print(f"\n{len(texts)} {title} in batches of {BATCH}, {CALLERS} callers, {rounds} rounds\n")
    print("| way | texts/s | beside gRPC | server CPU ms a batch |\n|---|---|---|---|")
    for name, found in rates.items():
        beside = statistics.median(one / other for one, other in zip(found, rates["gRPC"], strict=True))
        milliseconds = 1000 * cpu[name] / (rounds * len(batches))
        print(f"| {name} | {statistics.median(found):.0f} | {beside:.2f} | {milliseconds:.1f} |")


def main() -> None:
    """Parses options, measures, prints tables."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.http_door", description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--queries", type=int, default=500, help="questions (default: 500)")
    parser.add_argument("--documents", type=Path, default=Path(".demo/docstrings.parquet"))
    parser.add_argument("--texts", type=int, default=512, help="texts of a pass (default: 512)")
    parser.add_argument("--rounds", type=int, default=3, help="passes over the batches (default: 3)")
    options = parser.parse_args()
    asked = questions(DATA / "medquad" / "queries.parquet", options.queries)
    pool = Pool(options.bundle, "--http-listen", "127.0.0.1:0", "--http-served-names", NAME)
    try:
        found = re.search(r"http address=(\S+):(\d+)", (HOME / "log" / "pool").read_text())
        assert found is not None
        address = (found[1], int(found[2]))
        latency(pool, address, asked)
        throughput(pool, address, "questions", asked[: options.texts], options.rounds)
        documents = texts_of(options.documents)[1]
        throughput(pool, address, "documents", documents[: options.texts], options.rounds)
    finally:
        pool.close()


if __name__ == "__main__":
    main()
