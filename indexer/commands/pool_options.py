"""The options of every command that needs a pool, and the pool that they name."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from indexer.client import Access, TlsConfig
from indexer.commands.pool_process import private_pool
from indexer.errors import ConfigError


def pool_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds to a command what `open_pool` and `access_of` take."""
    bundle = click.option(
        "--bundle",
        type=click.Path(path_type=Path, exists=True, file_okay=False),
        help="Bundle to serve with a private pool, which is started and stopped, in place of --worker.",
    )
    worker = click.option("--worker", help="HOST:PORT or unix:PATH of a running pool; several with commas.")
    for option in reversed((worker, bundle, *_ACCESS_OPTIONS)):
        command = option(command)
    return command


def _file_option(name: str, words: str) -> Callable[[Any], Any]:
    return click.option(name, type=click.Path(path_type=Path, exists=True, dir_okay=False), help=words)


_ACCESS_OPTIONS = (
    _file_option("--tls-ca", "PEM certificates that sign the workers': connections are encrypted."),
    _file_option("--tls-cert", "PEM certificate of this client, for workers that ask for one."),
    _file_option("--tls-key", "PEM key of --tls-cert."),
    _file_option("--token-file", "Bearer token for the workers, read again for each call."),
)


def access_of(options: dict[str, Any]) -> Access:
    """Takes the options of access out of a command's options."""
    ca, cert, key, token = (options.pop(name) for name in ("tls_ca", "tls_cert", "tls_key", "token_file"))
    tls = TlsConfig(ca, cert, key) if ca or cert or key else None
    return Access(tls, token)


@contextmanager
def open_pool(worker: str | None, bundle: Path | None, access: Access) -> Iterator[list[str]]:
    """Yields the addresses of pools; one of `worker` and `bundle` is given."""
    if (worker is None) == (bundle is None):
        raise ConfigError("give one of --worker HOST:PORT (a running pool) and --bundle DIR (a private one)")
    if bundle is not None:
        if access != Access():
            raise ConfigError(
                "--tls-ca, --tls-cert, --tls-key and --token-file are for --worker; the private pool of "
                "--bundle is on this machine, for this process alone"
            )
        with private_pool(bundle) as target:
            yield [target]
        return
    targets = list(dict.fromkeys(part.strip() for part in (worker or "").split(",") if part.strip()))
    if not targets:
        raise ConfigError(f"--worker '{worker}' names no address; give HOST:PORT or unix:PATH")
    yield targets
