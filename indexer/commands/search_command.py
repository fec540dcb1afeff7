"""`search`: the documents nearest to queries."""

import json
from pathlib import Path
from typing import Any

import click

from indexer.commands.pool_options import access_of, open_pool, pool_options
from indexer.commands.report import hits_as_text, query_lines, read_queries
from indexer.errors import ConfigError
from indexer.search.hits import Hit
from indexer.search.searcher import Searcher
from indexer.search.values import plain


@click.command()
@click.argument("query", required=False)
@click.option("--index", type=click.Path(path_type=Path), required=True, help="Folder of the index.")
@pool_options
@click.option("--queries", type=click.Path(path_type=Path), help="One query a line, or .jsonl with 'text'.")
@click.option("-k", default=10, help="Hits for each query.")
@click.option("--columns", default="", help="Columns of the inputs to show with each hit, with commas.")
@click.option(
    "--filter",
    "condition",
    default="",
    help="Only documents whose columns meet this: \"lang = 'en' and (year >= 2020 or kind in ('a', 'b'))\".",
)
@click.option("--passages", is_flag=True, help="Tell which chunk of a document was nearest, in code points.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line for each query.")
@click.option("--mmap", is_flag=True, help="Leave the FAISS index in its file: it opens at once.")
def search(
    query: str | None,
    index: Path,
    worker: str | None,
    bundle: Path | None,
    queries: Path | None,
    columns: str,
    condition: str,
    as_json: bool,
    mmap: bool,
    **options: Any,
) -> None:
    """Find the documents nearest to QUERY, or to each query of a file."""
    access = access_of(options)
    if (query is None) == (queries is None):
        raise ConfigError("give one of a query and --queries FILE")
    texts = [query] if query is not None else read_queries(queries or Path())
    names = tuple(dict.fromkeys(name.strip() for name in columns.split(",") if name.strip()))
    with (
        open_pool(worker, bundle, access) as targets,
        Searcher(index, targets, access, mapped=mmap) as searcher,
    ):
        for reason in searcher.unreached:
            click.echo(f"warning: {reason}", err=True)
        for some in query_lines(texts):
            found = searcher.search(some, columns=names, filter=condition, **options)
            for text, hits in zip(some, found, strict=True):
                if as_json:
                    members = {"query": text, "hits": [_members(hit) for hit in hits]}
                    click.echo(json.dumps(members, ensure_ascii=False, allow_nan=False))
                else:
                    click.echo(hits_as_text(text, hits, with_query=queries is not None))


def _members(hit: Hit) -> dict[str, object]:
    """Returns a hit as JSON has it; columns and passage only where they were asked for."""
    members: dict[str, object] = {"rank": hit.rank, "doc_id": hit.doc_id, "score": hit.score}
    if hit.columns:
        members["columns"] = plain(hit.columns)
    if hit.passage is not None:
        members["passage"] = {"start": hit.passage.start, "stop": hit.passage.stop}
    return members
