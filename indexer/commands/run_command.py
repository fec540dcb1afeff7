"""`run`: makes an index, completes it, or brings it up to date."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from indexer.commands.engine_options import engine_options, open_engine
from indexer.commands.plan_options import input_option, plan_of, plan_options, wishes_of
from indexer.commands.pool_options import access_of, pool_options
from indexer.commands.recall_command import wish_options
from indexer.commands.report import summary_lines
from indexer.config import AUTO, FlowConfig, OnError, RunConfig
from indexer.operations.pipeline import run_index
from indexer.operations.run_report import RunReport

_MIB = 1 << 20


@click.command()
@input_option
@click.option("--output", type=click.Path(path_type=Path), required=True, help="Folder of the index.")
@pool_options
@engine_options
@plan_options
@click.option(
    "--index-key",
    default=AUTO,
    help="FAISS factory string; auto: exact up to 10,000 vectors, then what suits the wishes below.",
)
@wish_options
@click.option("--limit", type=int, help="Rows to index, counted over all inputs.  [default: all]")
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
        wishes=wishes_of(options),
        plan=plan_of(options, options["limit"]),
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


def _flow(options: Mapping[str, Any], *, private: bool) -> FlowConfig:
    patience = options["retry_seconds"]
    return FlowConfig(
        # A private pool that is gone does not come back: its processes are replaced, it itself is not.
        retry_seconds=min(patience, FlowConfig.connect_seconds) if private else patience,
        refresh_seconds=options["refresh_seconds"],
        bytes_in_flight=options["mib_in_flight"] * _MIB,
        unit_memory_bytes=options["mib_units"] * _MIB,
    )
