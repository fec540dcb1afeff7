"""`serve`: an index as a gRPC service."""

import asyncio
from pathlib import Path
from typing import Any

import click

from indexer.commands.pool_options import access_of, open_pool, prefixed_pool_options
from indexer.errors import PoolError
from indexer.serving.config import Limits, ServeConfig
from indexer.serving.logs import LEVELS, log_to_stderr
from indexer.serving.server import serve as serve_until_stopped

_LIMITS = Limits()
_PEM = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command()
@click.option("--index", type=click.Path(path_type=Path), required=True, help="Folder of the index.")
@prefixed_pool_options("pool-")
@click.option(
    "--listen",
    default="127.0.0.1:50052",
    help="HOST:PORT (port 0: a free one) or unix:PATH. Beyond this machine TLS is asked for.",
)
@click.option("--mmap", is_flag=True, help="Leave the FAISS index in its files: it opens at once.")
@click.option("--tls-cert", type=_PEM, help="PEM certificate of this server; read again when it changes.")
@click.option("--tls-key", type=_PEM, help="PEM key of --tls-cert.")
@click.option(
    "--token-file",
    type=_PEM,
    help="Bearer tokens of those who may search, one a line; read again when it changes.",
)
@click.option("--insecure", is_flag=True, help="Serve other machines unencrypted: the network is trusted.")
@click.option("--max-k", default=_LIMITS.max_k, help="Hits for each query at most.")
@click.option("--max-queries", default=_LIMITS.max_queries, help="Queries of one call at most.")
@click.option(
    "--max-concurrent", default=_LIMITS.max_concurrent, help="Calls at once; more get RESOURCE_EXHAUSTED."
)
@click.option(
    "--threads", type=int, help="Searches that compute at once, one core each.  [default: the cores]"
)
@click.option(
    "--pool-seconds", default=_LIMITS.pool_seconds, help="How long a pool that is away is waited for."
)
@click.option(
    "--drain-seconds", default=_LIMITS.drain_seconds, help="For calls under way when the server is to stop."
)
@click.option("--log-level", type=click.Choice(LEVELS), default="info", help="Least level that is logged.")
def serve(
    index: Path, worker: str | None, bundle: Path | None, mmap: bool, log_level: str, **options: Any
) -> None:
    """Serve searches of an index over gRPC until SIGTERM or SIGINT.

    Prints `ready ADDRESS` when it can be searched, and follows the index as it is updated. The service is
    embedpool.v1.SearchService of proto/; queries are embedded by the pool before its bulk work.
    """
    log_to_stderr(log_level)
    access = access_of(options, prefix="pool_")
    names = ("max_k", "max_queries", "max_concurrent", "threads", "pool_seconds", "drain_seconds")
    limits = Limits(**{name: options.pop(name) for name in names})
    with open_pool(worker, bundle, access) as targets:
        config = ServeConfig(index, tuple(targets), access=access, mapped=mmap, limits=limits, **options)
        complete = asyncio.run(serve_until_stopped(config, lambda address: click.echo(f"ready {address}")))
    if not complete:
        raise PoolError(
            f"accepted calls were not done within {limits.drain_seconds:g} s; raise --drain-seconds"
        )
