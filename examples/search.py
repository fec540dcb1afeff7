"""Asks a search server with nothing but the generated stub, as any language would.

    python -m indexer serve --index index --bundle bundle --listen 127.0.0.1:50052
    python examples/search.py 127.0.0.1:50052 "how to sort a list" "year >= 2020 and lang = 'en'" title,url

The filter and the columns are optional; both name columns of the Parquet files that were indexed.
"""

import sys

import grpc

from embedpool.v1 import search_service_pb2 as pb
from embedpool.v1 import search_service_pb2_grpc

SECONDS = 10.0


def main() -> None:
    """Prints score, id and columns of each hit."""
    if len(sys.argv) < 3:
        sys.exit("usage: search.py HOST:PORT TEXT [FILTER [COLUMN,COLUMN…]]")
    target, text, condition, columns = (*sys.argv[1:], "", "")[:4]
    request = pb.SearchRequest(
        texts=[text], k=10, filter=condition, columns=[name for name in columns.split(",") if name]
    )
    with grpc.insecure_channel(target) as channel:
        stub = search_service_pb2_grpc.SearchServiceStub(channel)
        try:
            response = stub.Search(request, timeout=SECONDS)
        except grpc.RpcError as error:
            sys.exit(f"error: {error.code().name}: {error.details()}")
    for hit in response.results[0].hits:
        values = {
            name: getattr(value, value.WhichOneof("kind") or "", None) for name, value in hit.columns.items()
        }
        print(
            f"{hit.score:.4f}  {hit.doc_id}", *(f"{name}={value}" for name, value in values.items()), sep="  "
        )


if __name__ == "__main__":
    main()
