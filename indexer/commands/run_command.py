"""`run`: makes an index, completes it, or brings it up to date."""

from pathlib import Path
from typing import Any

import click
from rich.console import Console

from indexer.commands.pool_options import access_of, open_pool, pool_options
from indexer.commands.recall_command import wish_options
from indexer.commands.report import summary_lines
from indexer.config import AUTO, FlowConfig, PlanConfig, RunConfig, VectorType, Wishes
from indexer.index.memory_rule import parse_bytes
from indexer.operations.pipeline import run_index

_MIB = 1 << 20


@click.command()
@click.option(
    "--input", "inputs", multiple=True, required=True, help="Parquet file or glob; may be repeated."
)
@click.option("--output", type=click.Path(path_type=Path), required=True, help="Folder of the index.")
@pool_options
@click.option("--id-column", default=PlanConfig.id_column, help="Column of ids: text or whole numbers.")
@click.option(
    "--text-columns", default=",".join(PlanConfig.text_columns), help="Columns of text, joined by a newline."
)
@click.option(
    "--index-key",
    default=AUTO,
    help="FAISS factory string; auto: exact up to 10,000 vectors, then what suits the wishes below.",
)
@click.option(
    "--max-index-memory-usage", help="Memory that the FAISS index may take, as 4GB or 512MiB.  [default: any]"
)
@wish_options
@click.option(
    "--vector-type",
    type=click.Choice([kind.value for kind in VectorType]),
    default="float32",
    help="As stored.",
)
@click.option("--limit", type=int, help="Rows to index, counted over all inputs.  [default: all]")
@click.option("--unit-rows", default=PlanConfig.unit_rows, help="Rows that are committed together.")
@click.option("--retry-seconds", default=FlowConfig.retry_seconds, help="Seconds a pool may be away.")
@click.option(
    "--mib-in-flight", default=FlowConfig.bytes_in_flight // _MIB, help="MiB of text under way at most."
)
@click.option(
    "--mib-units",
    default=FlowConfig.unit_memory_bytes // _MIB,
    help="MiB that units under way may hold; one alone a quarter of it.",
)
def run(worker: str | None, bundle: Path | None, **options: Any) -> None:
    """Make an index, or go on with one: the same command after any interruption."""
    access = access_of(options)
    config = RunConfig(
        inputs=options["inputs"],
        output=options["output"],
        index_key=options["index_key"],
        wishes=Wishes(
            memory_bytes=parse_bytes(options["max_index_memory_usage"])
            if options["max_index_memory_usage"] is not None
            else None,
            target_recall=options["target_recall"],
            max_query_ms=options["max_query_ms"],
        ),
        plan=PlanConfig(
            id_column=options["id_column"],
            text_columns=tuple(name.strip() for name in options["text_columns"].split(",")),
            vector_type=VectorType(options["vector_type"]),
            unit_rows=options["unit_rows"],
            limit=options["limit"],
        ),
        flow=FlowConfig(
            # A private pool that is gone does not come back: its processes are replaced, it itself is not.
            retry_seconds=min(options["retry_seconds"], FlowConfig.connect_seconds)
            if bundle
            else options["retry_seconds"],
            bytes_in_flight=options["mib_in_flight"] * _MIB,
            unit_memory_bytes=options["mib_units"] * _MIB,
        ),
    )
    with open_pool(worker, bundle, access) as targets:
        summary = run_index(config, targets, access, Console(stderr=True))
    for line in summary_lines(config.output, summary):
        click.echo(line)
