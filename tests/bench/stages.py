"""The stages of a benchmark, one after the other on the same loaded systems."""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.bench import latency, peers, report
from tests.bench.corpus import questions
from tests.bench.environments import HOME
from tests.bench.peer_loop import texts_of
from tests.bench.peers import Library
from tests.bench.systems import Child, Peer, Pool, cold_rate, index_rate

QUERIES = 300  # the p99 is then decided by three requests
COLD_ROUNDS = 3

Measure = Callable[[Path], float]
Rates = dict[str, list[float]]


def measure(bundle: Path, corpus: Path, short: Path, queries: Path, rounds: int) -> dict[str, Any]:
    """Runs every stage and returns what `report` prints."""
    print(f"every setting once: {corpus}", flush=True)
    libraries, best = _open(corpus)
    pool = Pool(bundle)
    try:
        documented = [library.settings[0] for library in libraries]
        chosen = list(dict.fromkeys([*documented, *best]))
        print(f"rounds: {corpus}", flush=True)
        rates = _long_texts(bundle, corpus, pool, chosen, rounds)
        fidelity = _fidelity(pool, corpus, chosen, libraries[0].settings[0])
        print("queries", flush=True)
        times = _latency(pool, corpus, queries)
        print(f"every setting once, then rounds: {short}", flush=True)
        short_best = [library.choose(short) for library in libraries]
        short_turns = {report.OURS: pool.documents_per_second, **_measures(short_best)}
        short_rates = in_turns(short_turns, short, rounds)
    finally:
        pool.close()
        for library in libraries:
            library.close()
    print("cold: from the start of a process to an index on disk", flush=True)
    cold: dict[str, Measure] = {
        report.OURS: lambda path: index_rate(path, HOME / "out" / "cold", "--bundle", str(bundle))
    }
    cold |= {peer.name: lambda path, peer=peer: cold_rate(peer, path) for peer in best}  # type: ignore[misc]
    return {
        "rates": rates,
        "documented": [peer.name for peer in documented],
        "best": [peer.name for peer in best],
        "cosine_with_fp32": fidelity,
        "query_milliseconds": times,
        "short": short_rates,
        "cold": in_turns(cold, corpus, COLD_ROUNDS),
        "versions": {child.name: child.versions for library in libraries for child in library.children},
    }


def in_turns(systems: Mapping[str, Measure], corpus: Path, rounds: int) -> Rates:
    """Returns documents/s of each system for each round; the order moves on by one a round."""
    rates: Rates = {name: [] for name in systems}
    names = list(systems)
    for turn in range(rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            rates[name].append(systems[name](corpus))
            print(f"  round {turn + 1}: {rates[name][-1]:7.1f} documents/s  {name}", flush=True)
    return rates


def _open(corpus: Path) -> tuple[list[Library], list[Peer]]:
    fp32 = peers.sentence_transformers(["fp32"])
    int8 = peers.sentence_transformers(peers.int8_presets())
    best = [fp32.choose(corpus), int8.choose(corpus)]
    fast = peers.fastembed(next(name for name in peers.int8_presets() if f"({name} " in best[1].name))
    return [fp32, int8, fast], [*best, fast.choose(corpus)]


def _measures(systems: Sequence[Peer]) -> dict[str, Measure]:
    return {peer.name: peer.documents_per_second for peer in systems}


def _long_texts(bundle: Path, corpus: Path, pool: Pool, chosen: Sequence[Peer], rounds: int) -> Rates:
    bare = Child("bare", sys.executable, "-m", "tests.bench.bare", str(bundle), str(corpus))
    turns: dict[str, Measure] = {
        report.OURS: pool.documents_per_second,
        report.WIRE: pool.wire_documents_per_second,
        report.BARE: lambda _: float(bare.ask({})["documents_per_second"]),
        **_measures(chosen),
    }
    try:
        return in_turns(turns, corpus, rounds)
    finally:
        bare.close()


def _fidelity(
    pool: Pool, corpus: Path, chosen: Sequence[Peer], reference: Peer
) -> dict[str, dict[str, float]]:
    expected = reference.vectors()
    found = {report.OURS: pool.vectors(corpus)} | {peer.name: peer.vectors() for peer in chosen}
    return {name: _cosines(vectors, expected) for name, vectors in found.items()}


def _cosines(vectors: NDArray[np.float32], expected: NDArray[np.float32]) -> dict[str, float]:
    values = np.einsum("nd,nd->n", vectors, expected)  # both of unit length
    return {"mean": float(values.mean()), "min": float(values.min())}


def _latency(pool: Pool, corpus: Path, queries: Path) -> dict[str, dict[str, float]]:
    asked = questions(queries, QUERIES)
    idle = latency.percentiles(pool.address, asked)
    with latency.bulk_load(pool.address, texts_of(corpus)[1]):
        loaded = latency.percentiles(pool.address, asked)
    return {"idle": idle, "under bulk load": loaded}
