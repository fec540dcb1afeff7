"""A bulk client: streams the lines of a file to a running pool and saves their vectors as .npy.

    python examples/embed_documents.py 127.0.0.1:50051 lines.txt vectors.npy

Answers of the stream come in any order and are matched by batch id. A line that cannot be embedded is
reported and its row stays zero. For resumable indexing of large Parquet files use `python -m indexer run`.
"""

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
from numpy.typing import NDArray

from embedpool.v1 import embedding_service_pb2 as pb
from embedpool.v1 import embedding_service_pb2_grpc

BATCH = 32  # lines of one message
IN_FLIGHT = 8  # messages sent and not yet answered: gRPC would else buffer the whole file


def embed_lines(
    stub: embedding_service_pb2_grpc.EmbeddingServiceStub, lines: list[bytes]
) -> NDArray[np.float32]:
    """Returns float32 `[lines, dim]` vectors; raises grpc.RpcError when the stream breaks."""
    room = threading.Semaphore(IN_FLIGHT)
    ended = threading.Event()

    def requests() -> Iterator[pb.EmbedDocumentsRequest]:
        for start in range(0, len(lines), BATCH):
            room.acquire()
            if ended.is_set():
                return
            yield pb.EmbedDocumentsRequest(batch_id=start, texts=lines[start : start + BATCH])

    vectors = np.zeros((len(lines), stub.GetModel(pb.GetModelRequest()).dim), dtype=np.float32)
    try:
        for answer in stub.EmbedDocuments(requests()):
            room.release()
            packed = np.frombuffer(answer.vectors.data, dtype="<f4")
            good = [answer.batch_id + row for row, item in enumerate(answer.items) if item.code == 0]
            vectors[good] = packed.reshape(answer.vectors.rows, answer.vectors.dim)
            for row, item in enumerate(answer.items):
                if item.code != 0:
                    print(f"line {answer.batch_id + row + 1}: {item.message}", file=sys.stderr)
    finally:
        ended.set()
        room.release()  # frees the thread that sends, when the stream broke
    return vectors


def main() -> None:
    """Reads lines, embeds them and writes the matrix."""
    if len(sys.argv) != 4:
        sys.exit("usage: embed_documents.py HOST:PORT LINES_FILE VECTORS.npy")
    target, source, result = sys.argv[1:]
    lines = Path(source).read_bytes().splitlines()
    with grpc.insecure_channel(target) as channel:
        vectors = embed_lines(embedding_service_pb2_grpc.EmbeddingServiceStub(channel), lines)
    np.save(result, vectors)
    print(f"{result}: {vectors.shape[0]} vectors of {vectors.shape[1]} numbers")


if __name__ == "__main__":
    main()
