"""The command line: `python -m worker serve` and `python -m worker info`."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

import click

from worker.config import ServeConfig
from worker.cpus import read_cpus
from worker.errors import ConfigError, UnavailableError, WorkerError
from worker.info import describe
from worker.logs import log_to_stderr
from worker.options import given_flags, setting_options
from worker.server import serve as serve_until_stopped
from worker.settings import AUTO, Value, build
from worker.sources import Resolved, resolve, to_toml


@click.group()
@click.version_option(package_name="embedpool")
def main() -> None:
    """Serve embeddings from a pool of pinned single-thread CPU processes."""


@main.command()
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="TOML file of settings, or EMBEDPOOL_CONFIG. Relative paths in it begin where the server starts.",
)
@click.option(
    "--print-config", is_flag=True, help="Print all settings as TOML, and where each comes from; end."
)
@setting_options
def serve(config: Path | None, print_config: bool, **arguments: Any) -> None:
    """Serve a bundle until SIGTERM or SIGINT; prints `ready ADDRESS` when texts can be embedded.

    Each setting is a flag, an environment variable (EMBEDPOOL_ and the flag's name, as in
    EMBEDPOOL_DRAIN_SECONDS) and a key of the TOML file; flags go before variables before the file.
    """
    try:
        resolved = resolve(given_flags(arguments), os.environ, config)
        if print_config:
            _config(resolved, **({"bundle": Path()} if resolved.values["bundle"] is None else {}))
            click.echo(to_toml(resolved))
            return
        settings = _config(resolved)
    except ConfigError as error:
        raise click.UsageError(str(error)) from error
    _serve(settings)


def _serve(config: ServeConfig) -> None:
    log_to_stderr(config.log)
    # Tokenizing has its own two threads; a thread per CPU on top would take the compute processes' cores.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    # gRPC's own lines would break the form of the log; its errors reach us as exceptions.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        complete = asyncio.run(serve_until_stopped(config, lambda address: click.echo(f"ready {address}")))
    except ConfigError as error:
        raise click.UsageError(str(error)) from error
    except WorkerError as error:
        _fail(error)
    if not complete:
        click.echo(
            f"error: accepted work was not done within {config.drain_seconds:g} s; raise --drain-seconds",
            err=True,
        )
        sys.exit(1)


def _config(resolved: Resolved, **derived: Any) -> ServeConfig:
    cpus = read_cpus()
    count = _process_count(resolved.values["processes"], cpus.usable)
    pins = tuple(cpus.pins(count))
    return build(resolved.values, resolved.sources, processes=count, pins=pins, **derived)


def _process_count(processes: Value, usable: int) -> int:
    if processes == AUTO:
        return usable
    if not isinstance(processes, int) or not 1 <= processes <= usable:
        raise ConfigError(
            f"--processes is {processes}; this process may use {usable} CPUs: use auto or 1 to {usable}"
        )
    return processes


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


def run() -> None:
    """Runs the command line; every error is one line on stderr."""
    try:
        main.main(prog_name="python -m worker", standalone_mode=False)
    except click.ClickException as error:
        click.echo(f"error: {' '.join(error.format_message().split())}", err=True)
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(1)


def _fail(error: WorkerError) -> NoReturn:
    click.echo(f"error: {' '.join(str(error).split())}", err=True)
    sys.exit(1)


if __name__ == "__main__":
    run()
