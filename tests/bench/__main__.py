"""`make bench`: embedpool beside other libraries, on real texts, all cores, in turns.

Every round runs each system once, in an order that rotates, and a ratio is the median of the rounds' own
ratios: a machine that slows down slows all of them. Each peer is measured at its documented or default
setting and at the fastest of those tried in one pass beforehand.
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.bench import environments, indexing, indexing_report, load, load_report, report, stages
from tests.bench.corpus import DOCUMENTS, questions, sample, short_texts

DATA = Path("../shared/data")
SHORT_TEXTS = 1000  # a few seconds for each system; arbitrary
QUESTIONS = 1000  # more than one measurement asks, so that none is asked twice in it
PICTURE = Path("docs/latency.png")
GROWTH = Path("docs/indexing.png")
RECIPES = Path("docs/pareto.png")
SCALING = Path("docs/scaling.png")
# What the figures of docs/scaling.md were made with.
SCALING_SIZES = ("--most-documents", "100000000", "--most-units", "20000")


def main() -> None:
    """Parses options, measures, and writes tables and figures to `.bench/`, pictures to `docs/`."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="rounds of all systems (default: 5)")
    parser.add_argument("--documents", type=int, default=DOCUMENTS, help="documents (default: %(default)s)")
    parser.add_argument("--bundle", type=Path, help="bundle to measure (default: builds one)")
    parser.add_argument(
        "--only",
        choices=["throughput", "latency", "indexing", "recipes", "scaling"],
        help="one part (default: all); latency takes 8 minutes, indexing 12, recipes 3, scaling 5",
    )
    parser.add_argument(
        "--growth",
        type=int,
        default=indexing.LARGE,
        help="documents of the large index (default: %(default)s)",
    )
    parser.add_argument("--load-rounds", type=int, default=load.ROUNDS, help="of latency (default: 2)")
    options = parser.parse_args()
    if not (DATA / "medquad" / "corpus.parquet").exists():
        raise SystemExit(f"error: {DATA} holds no medquad/corpus.parquet; the benchmark needs its texts")
    home, machine = environments.HOME, report.machine()
    bundle = environments.bundle(options.bundle)
    corpus = sample(DATA / "medquad" / "corpus.parquet", home / "medquad.parquet", options.documents)
    if options.only in (None, "latency"):
        _latency(bundle, corpus, options.load_rounds, machine)
    if options.only in (None, "indexing"):
        _indexing(bundle, options.growth, machine)
    if options.only in (None, "recipes"):
        shutil.copy(environments.searched_bundle() / "pareto.png", RECIPES)
        print(f"drawn to {RECIPES}")
    if options.only in (None, "scaling"):
        command = [sys.executable, "-m", "tests.simulation.driver", *SCALING_SIZES, "--plot", str(SCALING)]
        subprocess.run(command, check=True)
    if options.only in (None, "throughput"):
        _throughput(bundle, corpus, options, machine)


def _latency(bundle: Path, corpus: Path, rounds: int, machine: dict[str, str]) -> None:
    print("queries under load", flush=True)
    asked = questions(DATA / "medquad" / "queries.parquet", QUESTIONS)
    results = load.measure(bundle, corpus, asked, rounds) | {"machine": machine}
    _write("latency", results, load_report.markdown(results))
    load_report.draw(results, PICTURE)
    print(f"drawn to {PICTURE}")


def _indexing(bundle: Path, large: int, machine: dict[str, str]) -> None:
    results = indexing.measure(bundle, DATA / "medquad" / "corpus.parquet", large) | {"machine": machine}
    _write("indexing", results, indexing_report.markdown(results))
    indexing_report.draw(results, GROWTH)
    print(f"drawn to {GROWTH}")


def _throughput(bundle: Path, corpus: Path, options: argparse.Namespace, machine: dict[str, str]) -> None:
    home = environments.HOME
    short = short_texts(DATA / "squad" / "queries.parquet", home / "short.parquet", SHORT_TEXTS)
    results = stages.measure(bundle, corpus, short, DATA / "medquad" / "queries.parquet", options.rounds)
    print("the served graph on one core", flush=True)
    command = [sys.executable, "-m", "tests.bench.one_core", "--json", str(bundle)]
    results |= {"one_core": json.loads(subprocess.run(command, check=True, capture_output=True).stdout)}
    results |= {"machine": machine, "documents": options.documents, "short_texts": SHORT_TEXTS}
    _write("results", results, report.markdown(results))


def _write(name: str, results: dict[str, Any], text: str) -> None:
    table, numbers = (environments.HOME / f"{name}.{kind}" for kind in ("md", "json"))
    numbers.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    table.write_text(text, encoding="utf-8")
    print(f"\n{text}\nwritten to {table} and {numbers}")


if __name__ == "__main__":
    main()
