"""`repair`: mends what `verify` finds, as far as the index's own files allow."""

from pathlib import Path

import click
from rich.console import Console

from indexer.operations.repair import Repaired, repair_index


@click.command()
@click.option("--index", type=click.Path(path_type=Path), required=True, help="Folder of the index.")
@click.option("--index-key", default="", help="FAISS key where none is told any more.  [default: auto]")
def repair(index: Path, index_key: str) -> None:
    """Mend an index without a pool: damaged units are marked to be made again, the FAISS index is rebuilt."""
    for line in _lines(repair_index(index, Console(stderr=True), index_key)):
        click.echo(line)


def _lines(done: Repaired) -> list[str]:
    lines = [f"units      {len(done.damaged):,} were damaged, {done.missing:,} are to be made"]
    if done.emptied:
        lines.append(f"emptied    {len(done.emptied):,} damaged units of files that were planned again since")
    lines.append(f"removed    {done.removed:,} files that nothing named")
    lines.append(f"faiss      {done.generation}{f': {done.reason}' if done.reason else ''}")
    if done.missing:
        lines.append(
            "next       run the same 'run' command: it makes the units that are missing, and no others"
        )
    return lines
