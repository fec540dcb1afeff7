"""`delete`: takes documents out of an index by their ids."""

from pathlib import Path

import click
from rich.console import Console

from indexer.errors import ConfigError, InputError
from indexer.operations.delete import delete_documents, first_few


@click.command()
@click.option("--index", type=click.Path(path_type=Path), required=True, help="Folder of the index.")
@click.option("--ids", help="Ids of documents, with commas between them.")
@click.option("--ids-file", type=click.Path(path_type=Path), help="UTF-8 file with one id a line.")
def delete(index: Path, ids: str | None, ids_file: Path | None) -> None:
    """Take documents out of an index; searches that start later do not find them.

    Their vectors stay on disk until 'compact'. A document comes back when its input changes and 'run' reads
    it again.
    """
    if (ids is None) == (ids_file is None):
        raise ConfigError("give one of --ids a,b and --ids-file FILE")
    asked = _read_ids(ids_file) if ids_file is not None else [one for one in (ids or "").split(",") if one]
    if not asked:
        raise ConfigError(f"{'--ids' if ids_file is None else ids_file} names no id")
    done = delete_documents(index, asked, Console(stderr=True))
    click.echo(f"deleted    {done.deleted:,} documents; {done.generation.meta.count:,} vectors are left")
    if done.gone:
        click.echo(f"gone       {done.gone:,} had been deleted or replaced before")
    if done.unknown:
        click.echo(f"unknown    {len(done.unknown):,} are not in the index: {first_few(done.unknown)}")


def _read_ids(path: Path) -> list[str]:
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            return [line for raw in lines if (line := raw.removesuffix("\n").removesuffix("\r"))]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read ids from {path}: {error}; give a UTF-8 file, one id a line") from error
