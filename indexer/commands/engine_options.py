"""The options of `run` that say where units are embedded, and the engine that they name."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any

import click

from indexer.client import Access
from indexer.commands.pool_options import open_pool, pool_targets
from indexer.engines.engine import Engine
from indexer.engines.local import LocalEngine
from indexer.engines.ray_engine import RayEngine
from indexer.engines.seats import RayConfig
from indexer.errors import ConfigError


class EngineKind(StrEnum):
    """Where units are embedded."""

    LOCAL = "local"  # by this process
    RAY = "ray"  # by actors of a Ray cluster


def engine_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds to a command what `open_engine` takes."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


_OPTIONS = (
    click.option(
        "--engine",
        type=click.Choice([kind.value for kind in EngineKind]),
        default=EngineKind.LOCAL.value,
        help="Who embeds: this process, or Ray actors on many machines; the files are the same. With ray, "
        "--output and the inputs must have the same names on every node, --output on storage that all share "
        "with its locks (NFS 4); --bundle starts a pool on each node.",
    ),
    click.option(
        "--ray-address",
        help="HOST:PORT of a Ray cluster of which this machine is a node, or auto.  [default: one is started "
        "here, and stopped]",
    ),
    click.option(
        "--ray-actors",
        type=int,
        help="Actors that embed.  [default: one on each node; with --bundle and --ray-cpus as many as fit]",
    ),
    click.option(
        "--ray-cpus",
        type=int,
        help="CPUs that an actor reserves, with --bundle those of its pool.  [default: 1; with --bundle "
        "all of its node, shared evenly]",
    ),
)


@contextmanager
def open_engine(
    worker: str | None, bundle: Path | None, access: Access, options: Mapping[str, Any]
) -> Iterator[Engine]:
    """Yields the engine that a command names, with its pools; raises ConfigError."""
    given = [name for name in ("ray_address", "ray_actors", "ray_cpus") if options[name] is not None]
    if EngineKind(options["engine"]) is EngineKind.RAY:
        config = RayConfig(options["ray_address"], options["ray_actors"], options["ray_cpus"])
        with RayEngine(config, pool_targets(worker, bundle, access), bundle, access) as engine:
            yield engine
        return
    if given:
        raise ConfigError(f"--{given[0].replace('_', '-')} is for --engine ray; give that, or leave it out")
    with open_pool(worker, bundle, access) as targets:
        yield LocalEngine(targets, access)
