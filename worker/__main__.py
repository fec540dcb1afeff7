"""The command line: `python -m worker serve` and `python -m worker info`."""

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import click

from worker.config import Limits, ServeConfig
from worker.cpus import read_cpus
from worker.errors import ConfigError, UnavailableError, WorkerError
from worker.info import describe
from worker.logs import log_to_stderr
from worker.server import serve as serve_until_stopped

_LIMIT_HELP = {
    "max_text_bytes": "Bytes of one text.",
    "max_query_texts": "Texts of one EmbedQuery.",
    "max_batch_items": "Texts of one EmbedDocuments message.",
    "max_batch_bytes": "Text bytes of one EmbedDocuments message.",
    "max_stream_bytes_in_flight": "Bytes that one stream may hold, accepted and not yet answered.",
    "max_query_bytes_in_flight": "Bytes that all queries together may hold.",
}


def _limit_options(command: Callable[..., None]) -> Callable[..., None]:
    for name, text in reversed(_LIMIT_HELP.items()):
        default = getattr(Limits, name)
        command = click.option(
            "--" + name.replace("_", "-"), type=int, default=default, show_default=True, help=text
        )(command)
    return command


@click.group()
@click.version_option(package_name="embedpool")
def main() -> None:
    """Serve embeddings from a pool of pinned single-thread CPU processes."""


@main.command()
@click.option(
    "--bundle", type=click.Path(path_type=Path), required=True, help="Folder of the bundle to serve."
)
@click.option(
    "--listen",
    default="127.0.0.1:50051",
    show_default=True,
    help="HOST:PORT (port 0: a free one) or unix:PATH.",
)
@click.option(
    "--processes", default="auto", show_default=True, help="Compute processes; auto: one per usable CPU."
)
@click.option(
    "--drain-seconds", default=30.0, show_default=True, help="Seconds that accepted work may take at the end."
)
@click.option(
    "--run-seconds",
    default=60.0,
    show_default=True,
    help="Seconds after which a process that still computes one run is ended and replaced.",
)
@click.option("--stop-on-stdin-close", is_flag=True, help="Drain and end when stdin ends.")
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="Lowest level that is logged on stderr.",
)
@_limit_options
def serve(
    bundle: Path,
    listen: str,
    processes: str,
    drain_seconds: float,
    run_seconds: float,
    stop_on_stdin_close: bool,
    log_level: str,
    **limits: int,
) -> None:
    """Serve a bundle until SIGTERM or SIGINT; prints `ready ADDRESS` when texts can be embedded."""
    log_to_stderr(log_level)
    # Tokenizing has its own two threads; a thread per CPU on top would take the compute processes' cores.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    # gRPC's own lines would break the form of the log; its errors reach us as exceptions.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    cpus = read_cpus()
    try:
        count = _process_count(processes, cpus.usable)
        config = ServeConfig(
            bundle=bundle,
            listen=listen,
            processes=count,
            pins=tuple(cpus.pins(count)),
            drain_seconds=drain_seconds,
            stop_on_stdin_close=stop_on_stdin_close,
            run_seconds=run_seconds,
            limits=Limits(**limits),
        )
    except ConfigError as error:
        raise click.UsageError(str(error)) from error
    try:
        complete = asyncio.run(serve_until_stopped(config, lambda address: click.echo(f"ready {address}")))
    except WorkerError as error:
        _fail(error)
    if not complete:
        click.echo(
            f"error: accepted work was not done within {drain_seconds:g} s; raise --drain-seconds", err=True
        )
        sys.exit(1)


@main.command()
@click.option("--target", required=True, help="HOST:PORT or unix:PATH of a running server.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--timeout", default=5.0, show_default=True, help="Seconds to wait for the answer.")
def info(target: str, as_json: bool, timeout: float) -> None:
    """Show the model, the limits and the health of a running server; exit code 1 unless it is SERVING."""
    try:
        description = describe(target, timeout, as_json=as_json)
    except WorkerError as error:
        _fail(error)
    click.echo(description.text)
    if not description.serving:
        _fail(UnavailableError(f"the server at {target} is {description.health}; its log says why"))


def _process_count(processes: str, usable: int) -> int:
    if processes == "auto":
        return usable
    if not processes.isdecimal() or not 1 <= int(processes) <= usable:
        raise ConfigError(
            f"--processes is {processes}; this process may use {usable} CPUs: use auto or 1 to {usable}"
        )
    return int(processes)


def run() -> None:
    """Runs the command line; every error is one line on stderr."""
    try:
        main.main(prog_name="python -m worker", standalone_mode=False)
    except click.ClickException as error:
        click.echo(f"error: {error.format_message()}", err=True)
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(1)


def _fail(error: WorkerError) -> NoReturn:
    click.echo(f"error: {' '.join(str(error).split())}", err=True)
    sys.exit(1)


if __name__ == "__main__":
    run()
