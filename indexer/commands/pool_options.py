"""The options of every command that needs a pool, and the pool that they name."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from indexer.client import Access, TlsConfig
from indexer.client.naming import split
from indexer.engines.private_pool import private_pool
from indexer.errors import ConfigError

Command = Callable[..., None]
Option = Callable[[Any], Any]


def pool_options(command: Command) -> Command:
    """Adds to a command what `open_pool` and `access_of` take."""
    return prefixed_pool_options("")(command)


def prefixed_pool_options(prefix: str) -> Callable[[Command], Command]:
    """Adds the same, the options of access under names such as `--PREFIXtls-ca`, where others have those."""

    def add(command: Command) -> Command:
        for option in reversed((*_place_options(), *_access_options(prefix))):
            command = option(command)
        return command

    return add


def _place_options() -> Sequence[Option]:
    bundle = click.option(
        "--bundle",
        type=click.Path(path_type=Path, exists=True, file_okay=False),
        help="Bundle to serve with a private pool, which is started and stopped, in place of --worker.",
    )
    worker = click.option(
        "--worker",
        help="HOST:PORT or unix:PATH of a running pool, or dns:///NAME:PORT for all addresses that a name "
        "has; several with commas.",
    )
    return worker, bundle


def _file_option(name: str, words: str) -> Option:
    return click.option(f"--{name}", type=click.Path(path_type=Path, exists=True, dir_okay=False), help=words)


def _access_options(prefix: str) -> Sequence[Option]:
    return (
        _file_option(
            f"{prefix}tls-ca", "PEM certificates that sign the workers': connections are encrypted."
        ),
        _file_option(f"{prefix}tls-cert", "PEM certificate of this client, for workers that ask for one."),
        _file_option(f"{prefix}tls-key", f"PEM key of --{prefix}tls-cert."),
        _file_option(f"{prefix}token-file", "Bearer token for the workers, read again for each call."),
    )


def access_of(options: dict[str, Any], prefix: str = "") -> Access:
    """Takes the options of access, whose names begin with `prefix`, out of a command's options."""
    names = ("tls_ca", "tls_cert", "tls_key", "token_file")
    ca, cert, key, token = (options.pop(f"{prefix}{name}") for name in names)
    tls = TlsConfig(ca, cert, key) if ca or cert or key else None
    return Access(tls, token)


@contextmanager
def open_pool(worker: str | None, bundle: Path | None, access: Access) -> Iterator[list[str]]:
    """Yields the addresses of pools; one of `worker` and `bundle` is given."""
    targets = pool_targets(worker, bundle, access)
    if bundle is None:
        yield targets
        return
    with private_pool(bundle) as target:
        yield [target]


def pool_targets(worker: str | None, bundle: Path | None, access: Access) -> list[str]:
    """Returns the addresses of running pools, none for a private one; raises ConfigError."""
    if (worker is None) == (bundle is None):
        raise ConfigError("give one of --worker HOST:PORT (a running pool) and --bundle DIR (a private one)")
    if bundle is not None:
        if access != Access():
            raise ConfigError(
                "--tls-ca, --tls-cert, --tls-key and --token-file are for --worker; the private pool of "
                "--bundle is on this machine, for this process alone"
            )
        return []
    return split(worker or "")
