"""Embeds texts with a running pool and shows how alike they are.

    python examples/embed_query.py 127.0.0.1:50051 "sort a list" "order the elements" "a cat on a mat"

Several pools go with commas between them: calls are spread over those that serve. For asyncio there is
`AsyncClient`, with the same methods.
"""

import sys

from indexer.client import Client
from indexer.errors import IndexerError


def main() -> None:
    """Prints the cosine of the first text with each of the others."""
    if len(sys.argv) < 4:
        sys.exit("usage: embed_query.py HOST:PORT[,HOST:PORT…] TEXT OTHER_TEXT…")
    targets, *texts = sys.argv[1:]
    try:
        with Client(targets) as client:
            vectors = client.embed_query(texts).vectors
    except IndexerError as error:
        sys.exit(f"error: {error}")
    for text, cosine in zip(texts[1:], vectors[1:] @ vectors[0], strict=True):
        print(f"{cosine:.3f}  {text}")


if __name__ == "__main__":
    main()
