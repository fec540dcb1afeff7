"""How long a query takes while others load the server with documents: embedpool and Infinity, in turns.

Queries come 10 a second whatever happened to those before (an open loop), and a query's time counts from the
moment at which it should have been sent: a server that stalls is not flattered by the queries it held up.
Bulk clients are processes of their own that send batches of 32 documents back to back. Also run alone:
`python -m tests.bench --only latency`.
"""

import math
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from indexer.client import Client
from tests.bench.infinity import Connection, Infinity
from tests.bench.latency import sequential
from tests.bench.peer_loop import texts_of
from tests.bench.systems import Child, Pool
from worker.bundle import read_bundle
from worker.session import Session
from worker.tokenizer import Tokenizer

QUERIES_PER_SECOND = 10
CLIENTS = (0, 1, 4)  # that send documents
QUERY_SECONDS = 20.0  # of each measurement; arbitrary: with two rounds the p99 is that of 400 queries
BULK_SECONDS = 20.0  # some batches of each client, also where four of them share the server
WARM_SECONDS = 3.0  # before each measurement, for the batches in flight to reach their number
ROUNDS = 2
_WAITING = 400  # queries under way at most; the slowest server holds up some 10 seconds of them
_SEQUENTIAL = 300  # queries, one after the other

Ask = Callable[[str], float]  # embeds a query; returns seconds of the model's run, 0 where it is not told


@dataclass
class Load:
    """What one system did at one number of bulk clients, over all rounds.

    Attributes:
        milliseconds: Of each query, from when it should have been sent.
        with_queries: Documents/s of all clients together, a number a round.
        alone: The same without queries.
        query_share: Share of the compute processes' time that the queries' runs took, a number a round.
        asker_share: The same of what asking costs this process, on the same CPUs.
        longest_run: Milliseconds of the longest document's run, asked for as a query during the load.
    """

    milliseconds: list[float] = field(default_factory=list)
    with_queries: list[float] = field(default_factory=list)
    alone: list[float] = field(default_factory=list)
    query_share: list[float] = field(default_factory=list)
    asker_share: list[float] = field(default_factory=list)
    longest_run: list[float] = field(default_factory=list)


@dataclass
class System:
    """A server under test: how to ask it, and how many processes compute."""

    name: str
    address: str
    ask: Ask
    processes: int
    loads: dict[int, Load] = field(default_factory=lambda: {clients: Load() for clients in CLIENTS})


def measure(bundle: Path, corpus: Path, questions: Sequence[str], rounds: int = ROUNDS) -> dict[str, Any]:
    """Runs all rounds and returns what `load_report` shows."""
    longest = max(texts_of(corpus)[1], key=len)
    with ExitStack() as stack:
        pool = Pool(bundle)
        stack.callback(pool.close)
        infinity = Infinity()
        stack.callback(infinity.close)
        client = stack.enter_context(Client(pool.address))
        processes = client.model().processes
        systems = [
            System("embedpool", pool.address, lambda text: client.embed_query(text).timing.run, processes),
            System("infinity", infinity.address, _infinity_asker(infinity.address), processes),
        ]
        alone = {"gRPC": sequential(pool.address, questions[:_SEQUENTIAL])}
        alone["bare session"] = _bare(bundle, questions[:_SEQUENTIAL])
        for turn in range(rounds):
            for system in systems[:: 1 if turn % 2 == 0 else -1]:
                _round(system, corpus, questions, longest, turn)
    return {
        "systems": {one.name: {str(n): asdict(load) for n, load in one.loads.items()} for one in systems},
        "sequential": alone,
        "processes": processes,
        "rounds": rounds,
    }


def _round(system: System, corpus: Path, questions: Sequence[str], longest: str, turn: int) -> None:
    for clients, load in system.loads.items():
        system.ask(longest)  # returns when what the clients before have left is done
        with _bulk(system, clients, corpus) as children:
            time.sleep(WARM_SECONDS if clients else 0.0)
            if clients:
                load.alone.append(_documents_per_second(children, lambda: time.sleep(BULK_SECONDS)))
            runs: list[float] = []
            started, computed = time.monotonic(), time.process_time()
            ask = partial(_queries, system, load, questions, runs)
            rate = _documents_per_second(children, ask)
            seconds = time.monotonic() - started
            asking = time.process_time() - computed
            if clients:
                load.with_queries.append(rate)
                load.query_share.append(sum(runs) / (seconds * system.processes))
                load.asker_share.append(asking / (seconds * system.processes))
                load.longest_run += [1000 * system.ask(longest) for _ in range(5)]
        p50 = statistics.median(load.milliseconds)
        print(
            f"  round {turn + 1}: {system.name}, {clients} bulk clients: query p50 {p50:.1f} ms, "
            f"worst {max(load.milliseconds):.1f} ms",
            flush=True,
        )


def _queries(system: System, load: Load, questions: Sequence[str], runs: list[float]) -> None:
    """Sends queries at their times and waits for the last answer; `runs` gets the seconds of their runs."""
    sent: list[Future[float]] = []
    with ThreadPoolExecutor(_WAITING) as senders:
        start = time.monotonic() + 0.05
        for number in range(int(QUERY_SECONDS * QUERIES_PER_SECOND)):
            due = start + number / QUERIES_PER_SECOND
            time.sleep(max(0.0, due - time.monotonic()))
            question = questions[number % len(questions)]
            sent.append(senders.submit(_timed, system.ask, question, due, load.milliseconds))
    runs.extend(one.result() for one in sent)


def _timed(ask: Ask, question: str, due: float, milliseconds: list[float]) -> float:
    run = ask(question)
    milliseconds.append(1000 * (time.monotonic() - due))
    return run


@contextmanager
def _bulk(system: System, clients: int, corpus: Path) -> Iterator[list[Child]]:
    """Loads a system with bulk clients while the block runs."""
    command = (sys.executable, "-m", "tests.bench.load_client", system.name, system.address, str(corpus))
    children: list[Child] = []
    try:
        for number in range(clients):
            children.append(Child(f"load-{system.name}-{number}", *command))  # noqa: PERF401 - ended one by one
        yield children
    finally:
        for child in children:
            child.close()


def _documents_per_second(children: Sequence[Child], block: Callable[[], object]) -> float:
    """Returns documents/s of all clients during a block, each between its first and its last answer.

    NaN where a client got less than two: the machine did something else.
    """
    for child in children:
        child.ask({})
    block()
    rate = 0.0
    for child in children:
        batches = child.ask({})["batches"]
        if len(batches) < 2:
            return math.nan
        rate += sum(count for _, count in batches[1:]) / (batches[-1][0] - batches[0][0])
    return rate


def _infinity_asker(address: str) -> Ask:
    """Asks with one connection a thread."""
    local = threading.local()

    def ask(text: str) -> float:
        if not hasattr(local, "connection"):
            local.connection = Connection(address)
        local.connection.embed([text])
        return 0.0

    return ask


def _bare(bundle_folder: Path, questions: Sequence[str]) -> list[float]:
    """Returns milliseconds of the model alone for each query: no tokenizer, no process, no wire."""
    bundle = read_bundle(bundle_folder)
    session = Session(bundle)
    prompt = bundle.manifest.prompts.get(bundle.manifest.query_prompt, "")
    tokenizer = Tokenizer(bundle.tokenizer, bundle.manifest.max_tokens)
    tokens = tokenizer.encode([prompt + question for question in questions])
    session.embed([tokens[0].ids])
    milliseconds = []
    for one in tokens:
        started = time.perf_counter()
        session.embed([one.ids])
        milliseconds.append(1000 * (time.perf_counter() - started))
    return milliseconds
