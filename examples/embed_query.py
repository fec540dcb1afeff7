"""A minimal client: embeds texts with a running pool and shows how alike they are.

    python examples/embed_query.py 127.0.0.1:50051 "sort a list" "order the elements" "a cat on a mat"

Needs grpcio, protobuf and numpy, and the generated `embedpool.v1`: nothing else of embedpool.
"""

import sys
from collections.abc import Sequence

import grpc
import numpy as np
from numpy.typing import NDArray

from embedpool.v1 import embedding_service_pb2 as pb
from embedpool.v1 import embedding_service_pb2_grpc

TIMEOUT_SECONDS = 10.0


def embed(stub: embedding_service_pb2_grpc.EmbeddingServiceStub, texts: Sequence[str]) -> NDArray[np.float32]:
    """Returns float32 `[texts, dim]` vectors, in the order of the texts; raises grpc.RpcError."""
    answer = stub.EmbedQuery(pb.EmbedQueryRequest(texts=texts), timeout=TIMEOUT_SECONDS)
    packed = np.frombuffer(answer.vectors.data, dtype="<f4")
    return packed.reshape(answer.vectors.rows, answer.vectors.dim)


def main() -> None:
    """Prints the cosine of the first text with each of the others."""
    if len(sys.argv) < 4:
        sys.exit("usage: embed_query.py HOST:PORT TEXT OTHER_TEXT…")
    target, first, *others = sys.argv[1:]
    with grpc.insecure_channel(target) as channel:
        vectors = embed(embedding_service_pb2_grpc.EmbeddingServiceStub(channel), [first, *others])
    for text, cosine in zip(others, vectors[1:] @ vectors[0], strict=True):
        print(f"{cosine:.3f}  {text}")


if __name__ == "__main__":
    main()
