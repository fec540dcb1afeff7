"""`make bench`: embedpool beside other libraries, on real texts, all cores, in turns.

Every round runs each system once, in an order that rotates, and a ratio is the median of the rounds' own
ratios: a machine that slows down slows all of them. Each peer is measured at its documented or default
setting and at the fastest of those tried in one pass beforehand.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from tests.bench import environments, report, stages
from tests.bench.corpus import DOCUMENTS, sample, short_texts

DATA = Path("../shared/data")
SHORT_TEXTS = 1000  # a few seconds for each system; arbitrary


def main() -> None:
    """Parses options, measures, and writes `.bench/results.json` and `.bench/results.md`."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="rounds of all systems (default: 5)")
    parser.add_argument("--documents", type=int, default=DOCUMENTS, help="documents (default: %(default)s)")
    parser.add_argument("--bundle", type=Path, help="bundle to measure (default: builds one)")
    options = parser.parse_args()
    if not (DATA / "medquad" / "corpus.parquet").exists():
        raise SystemExit(f"error: {DATA} holds no medquad/corpus.parquet; the benchmark needs its texts")
    home, machine = environments.HOME, report.machine()
    bundle = environments.bundle(options.bundle)
    corpus = sample(DATA / "medquad" / "corpus.parquet", home / "medquad.parquet", options.documents)
    short = short_texts(DATA / "squad" / "queries.parquet", home / "short.parquet", SHORT_TEXTS)
    results = stages.measure(bundle, corpus, short, DATA / "medquad" / "queries.parquet", options.rounds)
    print("the served graph on one core", flush=True)
    command = [sys.executable, "-m", "tests.bench.one_core", "--json", str(bundle)]
    results |= {"one_core": json.loads(subprocess.run(command, check=True, capture_output=True).stdout)}
    results |= {"machine": machine, "documents": options.documents, "short_texts": SHORT_TEXTS}
    (home / "results.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    text = report.markdown(results)
    (home / "results.md").write_text(text, encoding="utf-8")
    print(f"\n{text}\nwritten to {home / 'results.md'} and {home / 'results.json'}")


if __name__ == "__main__":
    main()
