"""A bulk client in a process of its own: sends documents in batches of 32, back to back, until it is ended.

`python -m tests.bench.load_client embedpool|infinity ADDRESS CORPUS`. For each line on stdin it prints the
batches answered since the line before: `{"batches": [[seconds, documents], …]}`, times of time.monotonic().
"""

import itertools
import json
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from indexer.client import Client
from indexer.config import FlowConfig
from tests.bench.infinity import Connection
from tests.bench.peer_loop import texts_of

BATCH = 32


def _embedpool(address: str, texts: list[str]) -> Iterator[int]:
    """Streams for ever; yields the documents of each batch that is answered."""
    with Client(address, flow=FlowConfig(batch_items=BATCH)) as client:
        for document in client.embed_documents(itertools.cycle(texts)):
            if not document.ok:
                raise SystemExit(f"error: {document.code}: {document.message}")
            if document.index % BATCH == BATCH - 1:
                yield BATCH


def _infinity(address: str, texts: list[str]) -> Iterator[int]:
    """Sends one batch after the other for ever; yields the documents of each."""
    connection, endless = Connection(address), itertools.cycle(texts)
    while True:
        connection.embed(list(itertools.islice(endless, BATCH)))
        yield BATCH


def main() -> None:
    """Loads the server until stdin ends."""
    kind, address, corpus = sys.argv[1:]
    _, texts = texts_of(Path(corpus))
    loads = {"embedpool": _embedpool, "infinity": _infinity}[kind](address, texts)
    done: list[tuple[float, int]] = []

    def work() -> None:
        for count in loads:
            done.append((time.monotonic(), count))  # noqa: PERF401 - it never ends

    threading.Thread(target=work, daemon=True).start()
    print(json.dumps({"ready": {}}), flush=True)
    for _ in sys.stdin:
        found, done[:] = list(done), []
        print(json.dumps({"batches": found}), flush=True)


if __name__ == "__main__":
    main()
