"""The loop that every peer's process runs: the same road for all, only `encode` differs.

Runs in the peer's own venv, so it imports nothing of embedpool. Speaks lines on stdin and stdout:
`{"input": PARQUET, "output": FOLDER, "setting": {...}}` in, `{"seconds": …, "documents": …}` out.
"""

import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

Encode = Callable[[list[str], Mapping[str, Any]], NDArray[np.float32]]


def texts_of(path: Path) -> tuple[list[str], list[str]]:
    """Returns the ids and the texts, title and text joined by a line break as the indexer joins them."""
    table = pq.read_table(path)
    rows = zip(table["title"].to_pylist(), table["text"].to_pylist(), strict=True)
    return table["doc_id"].to_pylist(), [f"{title}\n{text}" for title, text in rows]


def parquet_to_faiss(
    source: Path, folder: Path, encode: Encode, setting: Mapping[str, Any]
) -> dict[str, Any]:
    """Embeds a Parquet file into a flat inner-product index on disk; returns seconds and counts."""
    folder.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    ids, texts = texts_of(source)
    vectors = np.ascontiguousarray(encode(texts, setting), dtype=np.float32)
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    faiss.write_index(index, str(folder / "index.faiss"))
    (folder / "ids.json").write_text(json.dumps(ids), encoding="utf-8")
    seconds = time.perf_counter() - started
    np.save(folder / "vectors.npy", vectors)  # for the comparison of vectors, outside the clock
    return {"seconds": seconds, "documents": len(ids), "dim": int(vectors.shape[1])}


def serve(encode: Encode, versions: Mapping[str, str]) -> None:
    """Says ready, then answers one job a line until stdin ends."""
    answers = sys.stdout
    sys.stdout = sys.stderr  # libraries that print must not break the protocol
    print(json.dumps({"ready": dict(versions)}), file=answers, flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        result = parquet_to_faiss(Path(job["input"]), Path(job["output"]), encode, job["setting"])
        print(json.dumps(result), file=answers, flush=True)
