"""The command line: `python -m worker serve`, `info` and `reload`."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

import click

from worker.cpus import read_cpus
from worker.errors import ConfigError, UnavailableError, WorkerError
from worker.operation.dial import Dial
from worker.operation.info import ask_to_reload, describe
from worker.operation.logs import log_to_stderr
from worker.operation.top.once import one_frame
from worker.operation.top.screen import is_drawable, watch
from worker.options import dial_options, given_flags, setting_options
from worker.server import serve as serve_until_stopped
from worker.settings.config import ServeConfig
from worker.settings.sources import Resolved, resolve, to_toml
from worker.settings.table import AUTO, Value, build

_WRONG_USAGE = 2


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
    resolved = resolve(given_flags(arguments), os.environ, config)
    if print_config:
        _config(resolved, **({"bundle": Path()} if resolved.values["bundle"] is None else {}))
        click.echo(to_toml(resolved))
    else:
        _serve(_config(resolved))


def _serve(config: ServeConfig) -> None:
    log_to_stderr(config.log)
    # Tokenizing has its own two threads; a thread per CPU on top would take the compute processes' cores.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    complete = asyncio.run(serve_until_stopped(config, lambda address: click.echo(f"ready {address}")))
    if not complete:
        _fail(f"accepted work was not done within {config.drain_seconds:g} s; raise --drain-seconds", 1)


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
@dial_options(timeout=5.0)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--statistics", is_flag=True, help="Show the counts since the start and the processes too.")
def info(dial: Dial, as_json: bool, statistics: bool) -> None:
    """Show the model, the limits and the health of a running server; exit code 1 unless it is SERVING."""
    description = describe(dial, as_json=as_json, statistics=statistics)
    click.echo(description.text)
    if not description.serving:
        raise UnavailableError(f"the server at {dial.target} is {description.health}; its log says why")


@main.command()
@dial_options(timeout=300.0)
@click.option("--bundle", type=click.Path(path_type=Path), help="Folder there.  [default: read again]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def reload(dial: Dial, bundle: Path | None, as_json: bool) -> None:
    """Have a running server take over a bundle without a pause; its token must be an administrator's."""
    click.echo(ask_to_reload(dial, bundle, as_json=as_json))


@main.command()
@dial_options(timeout=2.0, several=True)
@click.option(
    "--interval",
    type=click.FloatRange(min=0.2, max=3600),
    default=2.0,
    show_default=True,
    help="Seconds between two looks; rates and percentiles are those of the time in between.",
)
@click.option("--once", is_flag=True, help="Print one picture as text and end; so without a terminal, too.")
def top(dials: tuple[Dial, ...], interval: float, once: bool) -> None:
    """Watch running servers: rates, queues, percentiles, processes; q ends it.

    Percentiles are interpolated inside the buckets of the server's histograms. A server that goes away is
    shown as away until it is back. Drawing needs the extra `top`, --once does not.
    """
    if once or not is_drawable():
        click.echo(one_frame(dials, interval, sys.stdout.encoding))
    else:
        watch(dials, interval)


def run() -> None:
    """Runs the command line; every error is one line on stderr."""
    try:
        main.main(prog_name="python -m worker", standalone_mode=False)
    except click.ClickException as error:
        _fail(error.format_message(), error.exit_code)
    except ConfigError as error:
        _fail(str(error), _WRONG_USAGE)
    except WorkerError as error:
        _fail(str(error), 1)
    except click.Abort:
        sys.exit(1)


def _fail(message: str, code: int) -> NoReturn:
    click.echo(f"error: {' '.join(message.split())}", err=True)
    sys.exit(code)


if __name__ == "__main__":
    run()
