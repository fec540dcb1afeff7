"""`verify`: is an index what its plan says?"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from indexer.client import Access
from indexer.commands.pool_options import access_of, open_pool, pool_options
from indexer.config import FlowConfig
from indexer.embedding.reach import reach
from indexer.errors import StoreError
from indexer.operations.reembed import check_sample
from indexer.operations.verify import verify_index


@click.command()
@click.option("--index", type=click.Path(path_type=Path), required=True, help="Folder of the index.")
@pool_options
@click.option("--sample", default=32, help="Documents to embed again, when a pool is given.")
def verify(index: Path, worker: str | None, bundle: Path | None, sample: int, **options: Any) -> None:
    """Check counts, checksums, ids, vectors and the FAISS index; with a pool, embed a sample again."""
    access = access_of(options)
    if worker is None and bundle is None:
        _verify(index, None, access, sample)
    else:
        with open_pool(worker, bundle, access) as targets:
            _verify(index, targets, access, sample)


def _verify(index: Path, targets: Sequence[str] | None, access: Access, sample: int) -> None:
    more = {}
    if targets is not None:
        pools = reach(targets, access, FlowConfig.connect_seconds, Console(stderr=True))
        more["sample"] = lambda standing: check_sample(standing, pools, access, sample)
    failed = []
    for finding in verify_index(index, more):
        click.echo(f"{'ok  ' if finding.ok else 'FAIL'} {finding.check}: {finding.detail}")
        if not finding.ok:
            failed.append(finding.check)
    if failed:
        raise StoreError(f"{index} is not sound: {', '.join(failed)} failed")
