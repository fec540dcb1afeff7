"""The address to listen on: is it well-formed, free, and safe?

gRPC says only that binding failed, and silently takes over the socket file of a living server; so addresses
are tried first. Beyond this machine nothing is served unencrypted, unless that was asked for.
"""

import contextlib
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from indexer.client.settings import is_local
from indexer.errors import ConfigError, ListenError
from indexer.serving.config import ServeConfig
from indexer.serving.credentials import server_credentials

_log = logging.getLogger(__name__)

_UNIX = "unix:"
_NOT_FOR_OTHERS = 0o177  # permissions that the file of a socket does not get: only its owner dials it


def bind(server: Any, config: ServeConfig) -> str:
    """Binds the address and returns it as a client would dial it.

    Raises:
        ConfigError: It would serve others unencrypted.
        ListenError: It is malformed, taken, or not of this machine.
    """
    listen = config.listen
    _check_free(listen)
    _check_encrypted(config)
    try:
        with _owner_only():
            if config.tls_cert is None or config.tls_key is None:
                port = server.add_insecure_port(listen)
            else:
                port = server.add_secure_port(listen, server_credentials(config.tls_cert, config.tls_key))
    except RuntimeError as error:
        raise ListenError(
            f"cannot listen on {listen}: gRPC could not bind it; use another address"
        ) from error
    return listen if listen.startswith(_UNIX) else f"{listen.rpartition(':')[0]}:{port}"


def _check_encrypted(config: ServeConfig) -> None:
    encrypted = config.tls_cert is not None
    if config.listen.startswith(_UNIX) and encrypted:
        raise ConfigError(
            f"{config.listen} is its owner's alone and needs no TLS: leave out --tls-cert and --tls-key, or "
            "listen on HOST:PORT"
        )
    if encrypted or is_local(config.listen):
        return
    if config.token_file is not None:
        raise ConfigError(
            f"tokens would travel unencrypted to {config.listen}: give --tls-cert and --tls-key, or listen "
            "on 127.0.0.1 behind a proxy that encrypts"
        )
    if not config.insecure:
        raise ConfigError(
            f"{config.listen} can be dialled from other machines, and would be unencrypted: give --tls-cert "
            "and --tls-key, listen on 127.0.0.1, or give --insecure if the network is trusted"
        )
    _log.warning("unencrypted address=%s advice=%r", config.listen, "give --tls-cert and --tls-key")


@contextlib.contextmanager
def _owner_only() -> Iterator[None]:
    """Lets nobody else open the files that are made meanwhile, from their first moment."""
    before = os.umask(_NOT_FOR_OTHERS)
    try:
        yield
    finally:
        os.umask(before)


def _check_free(listen: str) -> None:
    """Tries the address; raises ListenError."""
    try:
        if listen.startswith(_UNIX):
            _check_unix(Path(listen.removeprefix(_UNIX)))
        else:
            _check_tcp(listen)
    except OSError as error:
        raise ListenError(
            f"cannot listen on {listen}: {error.strerror or error}; "
            "stop what listens there or use another address"
        ) from error


def _check_unix(path: Path) -> None:
    if not path.exists():
        return
    with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(ConnectionRefusedError):
        probe.connect(str(path))
        raise OSError(0, "a server listens there")


def _check_tcp(listen: str) -> None:
    host, _, port = listen.rpartition(":")
    if not host or not port.isdecimal():
        raise OSError(0, "it is neither HOST:PORT nor unix:PATH")
    for family, kind, protocol, _, address in socket.getaddrinfo(
        host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    ):
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
