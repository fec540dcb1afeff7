"""What the clients of a soak do, each in a thread until it is told to stop; one place counts outcomes.

Guarantees: every thread ends within seconds of the event; nothing is sent beyond the address given.
"""

import itertools
import random
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from indexer.client import Client
from indexer.config import FlowConfig
from indexer.errors import PoolError
from tests.soak.oracle import Oracle

QUERY_PAUSE = 0.05  # seconds between the queries of one client
SLOW_PAUSE = 0.02  # seconds that a slow reader takes for a document
_BAD_EVERY = 50  # documents, of which one is bad
_DEAD = 2.0  # seconds in which a socket must take what it is sent


@dataclass
class Tally:
    """What happened, counted by threads.

    Attributes:
        counts: By (kind of client, status, whether it was expected).
        wrong: Vectors that differ from the oracle's.
        compared: Vectors compared.
        first: The first unexpected outcomes, for people.
    """

    counts: Counter[tuple[str, str, bool]] = field(default_factory=Counter)
    wrong: int = 0
    compared: int = 0
    first: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, kind: str, status: str, *, expected: bool, words: str = "") -> None:
        """Counts an outcome."""
        with self.lock:
            self.counts[kind, status, expected] += 1
            if not expected and len(self.first) < 5:
                self.first.append(f"{kind}: {status}: {words}"[:300])

    def compare(self, *, right: bool) -> None:
        """Counts a comparison with the oracle."""
        with self.lock:
            self.compared += 1
            self.wrong += not right

    @property
    def unexpected(self) -> int:
        """Outcomes that should not be."""
        return sum(count for (_, _, expected), count in self.counts.items() if not expected)


@dataclass(frozen=True)
class Soak:
    """What the clients share: where, with what, until when, and where outcomes are counted.

    Attributes:
        address: The server.
        oracle: Texts and right answers.
        tally: Counts.
        stop: Set when they should end.
        retry_seconds: How long a bulk client waits for a server that is away.
    """

    address: str
    oracle: Oracle
    tally: Tally
    stop: threading.Event
    retry_seconds: float = 30.0

    def client(self, held: int = 1 << 20) -> Client:
        """Returns a client that holds so many bytes."""
        flow = FlowConfig(bytes_in_flight=held, retry_seconds=self.retry_seconds)
        return Client(self.address, flow=flow)

    def until_stopped(self, seconds: float) -> Iterator[int]:
        """Counts until the end, with a pause after each."""
        for number in itertools.count():
            if self.stop.wait(seconds if number else 0):
                return
            yield number


def bulk(soak: Soak) -> None:
    """Streams documents for ever, every fiftieth of them bad, and compares each good one."""
    _stream(soak, "bulk", 0.0)


def slow_reader(soak: Soak) -> None:
    """The same, but takes its answers slowly: the server holds what it may and no more."""
    _stream(soak, "slow reader", SLOW_PAUSE)


def _stream(soak: Soak, kind: str, pause: float) -> None:
    texts, bad = soak.oracle.texts, [b"", b"\xff\xfe", b" "]

    def source() -> Iterator[str | bytes]:
        for number in itertools.count():
            if soak.stop.is_set():
                return
            yield bad[number % 3] if number % _BAD_EVERY == 0 else texts[number % len(texts)]

    with soak.client() as client:
        for document in client.embed_documents(source()):
            is_bad = document.index % _BAD_EVERY == 0
            expected = document.code == ("INVALID_ARGUMENT" if is_bad else "OK")
            soak.tally.add(kind, document.code, expected=expected, words=document.message)
            if document.vector is not None:
                place = document.index % len(texts)
                right = soak.oracle.agrees(document.vector, soak.oracle.documents[place])
                soak.tally.compare(right=right)
            if pause:
                soak.stop.wait(pause)


def queries(soak: Soak) -> None:
    """Asks one to three texts at a time and compares the answers."""
    drawn = random.Random(1)
    with soak.client() as client:
        for _ in soak.until_stopped(QUERY_PAUSE):
            places = drawn.sample(range(len(soak.oracle.texts)), drawn.randint(1, 3))
            try:
                answer = client.embed_query([soak.oracle.texts[place] for place in places])
            except PoolError as error:
                soak.tally.add("query", error.code, expected=False, words=str(error))
                continue
            soak.tally.add("query", "OK", expected=True)
            for row, place in enumerate(places):
                right = soak.oracle.agrees(answer.vectors[row], soak.oracle.queries[place])
                soak.tally.compare(right=right)


def cancelled(soak: Soak) -> None:
    """Leaves calls before they are answered: queries that have no time, streams that are given up."""
    texts = soak.oracle.texts
    with soak.client() as client:
        client.model()
        for number in soak.until_stopped(0.1):
            try:
                if number % 2:
                    client.embed_query(texts[:8], timeout=0.001)
                else:
                    stream = client.embed_documents(itertools.cycle(texts))
                    list(itertools.islice(stream, number % 40))
                    stream.close()  # type: ignore[attr-defined]  # it is a generator
            except PoolError as error:
                expected = error.code == "DEADLINE_EXCEEDED" and bool(number % 2)
                soak.tally.add("cancelled", error.code, expected=expected, words=str(error))
            else:
                soak.tally.add("cancelled", "OK", expected=True)


def bad_input(soak: Soak) -> None:
    """Asks for what cannot be, and writes noise to the port: each is refused, and nothing else happens."""
    drawn = random.Random(2)
    with soak.client() as client:
        wrong: list[Callable[[], object]] = [
            lambda: client.embed_query([""]),
            lambda: client.embed_query(["w1"], prompt_name="no such prompt"),
            lambda: client.embed_query(["w1"], dimensions=10**6),
            lambda: client.embed_query(["w1 " * (1 << 20)]),
        ]
        for number in soak.until_stopped(0.1):
            if number % 5 == 4:
                _noise(soak.address, drawn.randbytes(drawn.randint(1, 4096)))
                soak.tally.add("bad input", "noise", expected=True)
                continue
            try:
                wrong[number % 5]()
            except PoolError as error:
                expected = error.code == "INVALID_ARGUMENT"
                soak.tally.add("bad input", error.code, expected=expected, words=str(error))
            else:
                soak.tally.add("bad input", "OK", expected=False, words=f"request {number % 5}")


def _noise(address: str, noise: bytes) -> None:
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=_DEAD) as raw:
        try:
            raw.sendall(noise)
            raw.recv(64)
        except OSError:
            return  # it hung up, or says nothing: both are its right


CLIENTS = (bulk, bulk, slow_reader, queries, cancelled, bad_input)
