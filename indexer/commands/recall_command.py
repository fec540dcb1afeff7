"""`python -m indexer recall`: what the index finds at which speed, and the setting that searches use."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console

from indexer.client import Access
from indexer.commands.pool_options import access_of, open_pool, pool_options
from indexer.commands.report import query_lines, read_queries
from indexer.config import Wishes
from indexer.errors import BuildError, ConfigError
from indexer.index import measure, recall_plot, recall_report
from indexer.index.ground_truth import Queries
from indexer.index.measure import Built
from indexer.index.recall import Pick
from indexer.index.tuning import QUERIES, Evaluation, tune
from indexer.search.query_pool import QueryPool
from indexer.store.durable import write_durable


def wish_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the wishes that a search setting is chosen by."""
    target = click.option(
        "--target-recall",
        type=float,
        help="Share of the true nearest that searches should find, as .95; the cheapest setting is taken.",
    )
    limit = click.option(
        "--max-query-ms",
        type=float,
        help="Milliseconds on one core within which 99 of 100 searches should end.",
    )
    return target(limit(command))


@click.command()
@click.option("--index", type=click.Path(path_type=Path), required=True, help="Folder of the index.")
@click.option("--queries", type=click.Path(path_type=Path), help="One query a line, or .jsonl with 'text'.")
@click.option(
    "--sample",
    type=int,
    help="Vectors of the index to search for, each left out of its own answer.  "
    f"[default: {QUERIES:,} without --queries]",
)
@pool_options
@click.option("-k", default=10, help="Hits for each query.")
@wish_options
@click.option("--save", is_flag=True, help="Store the setting in the index: searches use it.")
@click.option("--mmap", is_flag=True, help="Measure the FAISS index in its file, not read whole.")
@click.option("--plot", type=click.Path(path_type=Path), help="Draw recall over speed as PNG.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write all figures as JSON.")
def recall(
    index: Path,
    queries: Path | None,
    sample: int | None,
    worker: str | None,
    bundle: Path | None,
    k: int,
    save: bool,
    mmap: bool,
    plot: Path | None,
    json_file: Path | None,
    **options: Any,
) -> None:
    """Measure recall against exact search, and queries/s on one core, for settings of rising effort."""
    access = access_of(options)
    wishes = Wishes(target_recall=options["target_recall"], max_query_ms=options["max_query_ms"])
    _check(wishes, queries, sample, worker or bundle, save=save)
    if plot is not None:
        recall_plot.check_installed()
    built = measure.open_built(index)
    asked = _asked(built, queries, sample, worker, bundle, access)
    in_use = built.generation.meta.search
    evaluation = measure.measure(built, asked, k, Console(stderr=True), mapped=mmap, also=in_use)
    for line in recall_report.table_lines(built.generation.meta, evaluation):
        click.echo(line)
    pick = tune(evaluation, wishes)[0] if wishes.tuned else None
    _write(built, evaluation, pick, plot, json_file)
    if pick is not None:
        if pick.unmet:
            raise BuildError(f"{pick.unmet}{'; nothing was stored' if save else ''}")
        if save:
            measure.save(built, evaluation, wishes)
        click.echo(recall_report.pick_line(pick, saved=save))


def _check(wishes: Wishes, queries: Path | None, sample: int | None, pool: object, *, save: bool) -> None:
    """Raises ConfigError for options that do not go together."""
    if queries is not None and sample is not None:
        raise ConfigError("give one of --queries FILE and --sample N")
    if (queries is None) != (pool is None):
        raise ConfigError("--queries and a pool (--worker or --bundle) go together: the pool embeds them")
    if save and not wishes.tuned:
        raise ConfigError("--save needs --target-recall or --max-query-ms: the wish to choose a setting by")


def _asked(
    built: Built,
    queries: Path | None,
    sample: int | None,
    worker: str | None,
    bundle: Path | None,
    access: Access,
) -> Queries:
    """Returns the queries: of a file, embedded by the pool, or vectors of the index."""
    if queries is None:
        return measure.sample_queries(built, QUERIES if sample is None else sample)
    texts = read_queries(queries)
    with open_pool(worker, bundle, access) as targets:
        pool = QueryPool(built.layout.root, built.plan.model, targets, access)
        try:
            for line in pool.unreached:
                click.echo(f"warning: {line}", err=True)
            return Queries.foreign(np.concatenate([pool.embed(some) for some in query_lines(texts)]))
        finally:
            pool.close()


def _write(
    built: Built, evaluation: Evaluation, pick: Pick | None, plot: Path | None, json_file: Path | None
) -> None:
    meta = built.generation.meta
    if plot is not None:
        met = pick.point if pick is not None and not pick.unmet else None
        recall_plot.draw(meta, evaluation, met, plot)
    if json_file is not None:
        found = recall_report.as_json(meta, built.generation.name, evaluation, pick)
        write_durable(json_file, (json.dumps(found, indent=1) + "\n").encode())
