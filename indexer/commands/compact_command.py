"""`compact`: takes what is dead out of an index, and what nothing names."""

from pathlib import Path
from typing import Any

import click
from rich.console import Console

from indexer.commands.recall_command import wish_options
from indexer.config import Wishes
from indexer.index.memory_rule import parse_bytes
from indexer.operations.compact import compact_index

_MIB = 1 << 20


@click.command()
@click.option("--index", type=click.Path(path_type=Path), required=True, help="Folder of the index.")
@click.option("--index-key", default="", help="FAISS factory string, or auto.  [default: as it is]")
@click.option("--max-index-memory-usage", help="Memory that the FAISS index may take, as 4GB or 512MiB.")
@click.option("--max-build-memory", help="Memory that building it may take, as 4GB.  [default: half of all]")
@wish_options
def compact(index: Path, index_key: str, **options: Any) -> None:
    """Rewrite an index without what was deleted or replaced, and build its FAISS index anew.

    Searches go on meanwhile. Ids of rows stay; nothing is embedded again.
    """
    wishes = Wishes(
        memory_bytes=_bytes(options["max_index_memory_usage"]),
        target_recall=options["target_recall"],
        max_query_ms=options["max_query_ms"],
        build_memory_bytes=_bytes(options["max_build_memory"]),
    )
    done = compact_index(index, Console(stderr=True), index_key, wishes)
    meta = done.generation.meta
    click.echo(f"taken out  {done.documents:,} documents from {done.units:,} units")
    click.echo(f"index      {meta.key}, {meta.count:,} vectors{'' if done.rebuilt else ', as it was'}")
    click.echo(f"{'freed     ' if done.freed >= 0 else 'grown by  '} {abs(done.freed) / _MIB:,.1f} MiB")


def _bytes(text: str | None) -> int | None:
    return None if text is None else parse_bytes(text)
