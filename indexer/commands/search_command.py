"""`search`: the documents nearest to queries."""

import json
from pathlib import Path
from typing import Any

import click

from indexer.commands.pool_options import access_of, open_pool, pool_options
from indexer.commands.report import hits_as_text, query_lines, read_queries
from indexer.errors import ConfigError
from indexer.search.searcher import Searcher


@click.command()
@click.argument("query", required=False)
@click.option("--index", type=click.Path(path_type=Path), required=True, help="Folder of the index.")
@pool_options
@click.option("--queries", type=click.Path(path_type=Path), help="One query a line, or .jsonl with 'text'.")
@click.option("-k", default=10, help="Hits for each query.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line for each query.")
@click.option("--mmap", is_flag=True, help="Leave the FAISS index in its file: it opens at once.")
def search(
    query: str | None,
    index: Path,
    worker: str | None,
    bundle: Path | None,
    queries: Path | None,
    k: int,
    as_json: bool,
    mmap: bool,
    **options: Any,
) -> None:
    """Find the documents nearest to QUERY, or to each query of a file."""
    access = access_of(options)
    if (query is None) == (queries is None):
        raise ConfigError("give one of a query and --queries FILE")
    texts = [query] if query is not None else read_queries(queries or Path())
    with (
        open_pool(worker, bundle, access) as targets,
        Searcher(index, targets, access, mapped=mmap) as searcher,
    ):
        for line in searcher.unreached:
            click.echo(f"warning: {line}", err=True)
        for some in query_lines(texts):
            for text, hits in zip(some, searcher.search(some, k), strict=True):
                if as_json:
                    found = [{"rank": hit.rank, "doc_id": hit.doc_id, "score": hit.score} for hit in hits]
                    click.echo(json.dumps({"query": text, "hits": found}, ensure_ascii=False))
                else:
                    click.echo(hits_as_text(text, hits, with_query=queries is not None))
