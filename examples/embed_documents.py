"""Streams the lines of a file to one running pool or several, and saves their vectors as .npy.

    python examples/embed_documents.py 127.0.0.1:50051 lines.txt vectors.npy

The file is read only as far ahead as the client keeps in flight. A line that cannot be embedded is reported
and its row stays zero. For resumable indexing of large Parquet files use `python -m indexer run`.
"""

import sys
from pathlib import Path

import numpy as np

from indexer.client import Client
from indexer.errors import IndexerError


def main() -> None:
    """Reads lines, embeds them and writes the matrix."""
    if len(sys.argv) != 4:
        sys.exit("usage: embed_documents.py HOST:PORT[,HOST:PORT…] LINES_FILE VECTORS.npy")
    targets, source, result = sys.argv[1:]
    rows = []
    try:
        with Path(source).open("rb") as lines, Client(targets) as client:
            empty = np.zeros(client.model().dim, dtype=np.float32)
            for document in client.embed_documents(line.rstrip(b"\r\n") for line in lines):
                if document.vector is None:
                    print(f"line {document.index + 1}: {document.code}: {document.message}", file=sys.stderr)
                rows.append(empty if document.vector is None else document.vector)
    except (IndexerError, OSError) as error:
        sys.exit(f"error: {error}")
    np.save(result, np.stack(rows) if rows else np.zeros((0, len(empty)), dtype=np.float32))
    print(f"{result}: {len(rows)} vectors of {len(empty)} numbers")


if __name__ == "__main__":
    main()
