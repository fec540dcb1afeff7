"""`run`: makes an index, completes it, or brings it up to date."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from indexer.commands.engine_options import engine_options, open_engine
from indexer.commands.pool_options import access_of, pool_options
from indexer.commands.recall_command import wish_options
from indexer.commands.report import summary_lines
from indexer.config import AUTO, FlowConfig, OnError, PlanConfig, RunConfig, VectorType, Wishes
from indexer.index.memory_rule import parse_bytes
from indexer.operations.pipeline import run_index
from indexer.operations.run_report import RunReport

_MIB = 1 << 20


@click.command()
@click.option(
    "--input",
    "inputs",
    multiple=True,
    required=True,
    help="Parquet file, folder or glob, local or a URI such as s3://bucket/folder; may be repeated.",
)
@click.option("--output", type=click.Path(path_type=Path), required=True, help="Folder of the index.")
@pool_options
@engine_options
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
    "--refresh-seconds",
    default=FlowConfig.refresh_seconds,
    help="Seconds until the name of a pool (dns:///NAME:PORT) is looked up again.",
)
@click.option(
    "--mib-in-flight", default=FlowConfig.bytes_in_flight // _MIB, help="MiB of text under way at most."
)
@click.option(
    "--mib-units",
    default=FlowConfig.unit_memory_bytes // _MIB,
    help="MiB that units under way may hold; one alone a quarter of it.",
)
@click.option(
    "--max-build-memory",
    help="Memory that building the FAISS index may take.  [default: half of what there is]",
)
@click.option(
    "--chunk-tokens",
    default=PlanConfig.chunk_tokens,
    help="A document of more tokens has a vector for each chunk of so many; 0: its end is cut.",
)
@click.option(
    "--chunk-overlap",
    default=PlanConfig.chunk_overlap,
    help="Tokens of a chunk that are in the one before, too.",
)
@click.option(
    "--on-error",
    type=click.Choice([kind.value for kind in OnError]),
    default=OnError.STOP.value,
    help="Bad files, row groups and repeated ids: stop before anything is embedded, or skip and count them.",
)
@click.option(
    "--new-model",
    is_flag=True,
    help="The pool serves another model than the index: build beside it, and swap when that is ready.",
)
@click.option(
    "--summary",
    type=click.Path(path_type=Path),
    help="File for a summary in JSON, kept up to date.",
)
def run(worker: str | None, bundle: Path | None, **options: Any) -> None:
    """Make an index, go on with one after any interruption, or bring it up to date: one command for all."""
    access = access_of(options)
    config = RunConfig(
        inputs=options["inputs"],
        output=options["output"],
        index_key=options["index_key"],
        wishes=_wishes(options),
        plan=_plan(options),
        flow=_flow(options, private=bundle is not None),
        on_error=OnError(options["on_error"]),
        new_model=options["new_model"],
    )
    report = RunReport(options["summary"])
    try:
        with open_engine(worker, bundle, access, options) as engine:
            summary = run_index(config, engine, Console(stderr=True), report.reached)
    except BaseException as error:
        report.failed(error)
        raise
    report.done(summary)
    for line in summary_lines(config.output, summary):
        click.echo(line)


def _wishes(options: Mapping[str, Any]) -> Wishes:
    memory, building = (
        None if options[name] is None else parse_bytes(options[name])
        for name in ("max_index_memory_usage", "max_build_memory")
    )
    return Wishes(memory, options["target_recall"], options["max_query_ms"], building)


def _plan(options: Mapping[str, Any]) -> PlanConfig:
    return PlanConfig(
        id_column=options["id_column"],
        text_columns=tuple(name.strip() for name in options["text_columns"].split(",")),
        vector_type=VectorType(options["vector_type"]),
        unit_rows=options["unit_rows"],
        limit=options["limit"],
        chunk_tokens=options["chunk_tokens"],
        chunk_overlap=options["chunk_overlap"],
    )


def _flow(options: Mapping[str, Any], *, private: bool) -> FlowConfig:
    patience = options["retry_seconds"]
    return FlowConfig(
        # A private pool that is gone does not come back: its processes are replaced, it itself is not.
        retry_seconds=min(patience, FlowConfig.connect_seconds) if private else patience,
        refresh_seconds=options["refresh_seconds"],
        bytes_in_flight=options["mib_in_flight"] * _MIB,
        unit_memory_bytes=options["mib_units"] * _MIB,
    )
