"""The bare session: what the cores can do with nothing around them; the ceiling for the pool.

One pinned process per CPU, each with the worker's own session; every text is tokenized beforehand; all
processes start at one signal. Usage: python -m tests.bench.bare BUNDLE CORPUS, then a line on stdin a round.
"""

import json
import multiprocessing
import os
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

from tests.bench.peer_loop import texts_of
from worker.bundle import read_bundle
from worker.session import Session
from worker.tokenizer import Tokenizer


def _child(pipe: Connection, cpu: int, share: int, shares: int, bundle_path: Path, corpus: Path) -> None:
    os.sched_setaffinity(0, {cpu})
    bundle = read_bundle(bundle_path)
    session = Session(bundle)
    _, texts = texts_of(corpus)
    tokens = Tokenizer(bundle.tokenizer, bundle.manifest.max_tokens).encode(texts)[share::shares]
    ids = [one.ids for one in tokens]
    session.embed(ids[:8])  # first runs allocate
    pipe.send(len(ids))
    while pipe.recv():
        started = time.perf_counter()
        session.embed(ids)
        pipe.send(time.perf_counter() - started)


def main() -> None:
    """Answers each line of stdin with the documents/s of all CPUs together."""
    cpus = sorted(os.sched_getaffinity(0))
    context = multiprocessing.get_context("spawn")
    pipes = []
    for share, cpu in enumerate(cpus):
        here, there = context.Pipe()
        arguments = (there, cpu, share, len(cpus), Path(sys.argv[1]), Path(sys.argv[2]))
        context.Process(target=_child, args=arguments, daemon=True).start()
        pipes.append(here)
    counts = [pipe.recv() for pipe in pipes]
    print(json.dumps({"ready": {"processes": len(cpus)}}), flush=True)
    for _ in sys.stdin:
        for pipe in pipes:
            pipe.send(True)
        rates = [count / pipe.recv() for count, pipe in zip(counts, pipes, strict=True)]
        print(json.dumps({"documents_per_second": sum(rates), "each": rates}), flush=True)


if __name__ == "__main__":
    main()
