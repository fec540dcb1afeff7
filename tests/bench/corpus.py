"""The texts of the benchmarks: a seeded sample of the real corpus, written once as Parquet.

The same file goes to every system, so all of them read the same rows in the same order.
"""

import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

SEED = 0
DOCUMENTS = 400  # enough for ten seconds of two cores; as in the published figures


def sample(source: Path, target: Path, count: int = DOCUMENTS) -> Path:
    """Writes `count` rows of a corpus (doc_id, title, text), chosen by the seed; returns the target."""
    table = pq.read_table(source, columns=["doc_id", "title", "text"])
    rows = sorted(random.Random(SEED).sample(range(table.num_rows), count))
    target.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table.take(pa.array(rows)), target, compression="zstd")
    return target


def questions(source: Path, count: int) -> list[str]:
    """Returns `count` questions of a set of queries (query_id, text), chosen by the seed."""
    texts: list[str] = pq.read_table(source, columns=["text"])["text"].to_pylist()
    return random.Random(SEED).sample(texts, count)


def short_texts(source: Path, target: Path, count: int) -> Path:
    """Writes `count` questions as a corpus without titles, chosen by the seed; returns the target."""
    texts = questions(source, count)
    ids = [f"q{number}" for number in range(count)]
    target.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"doc_id": ids, "title": [""] * count, "text": texts}), target)
    return target
