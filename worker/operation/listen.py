"""The address to listen on: is it well-formed, free, and safe?

gRPC says only that binding failed, and silently takes over the socket file of a living server; so addresses
are tried first. Beyond this machine nothing is served unencrypted, unless that was asked for.
"""

import contextlib
import ipaddress
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import grpc

from worker.errors import ConfigError, ListenError
from worker.operation.credentials import Certificates
from worker.settings.config import ServeConfig

_log = logging.getLogger(__name__)

UNIX = "unix:"
# Connections that the kernel keeps until they are taken; arbitrary.
_BACKLOG = 1024
# Permissions that the file of a socket does not get: only its owner dials it.
_NOT_FOR_OTHERS = 0o177


def bind(server: grpc.aio.Server, config: ServeConfig, certificates: Certificates | None) -> str:
    """Binds the gRPC address and returns it as a client would dial it.

    Raises:
        ConfigError: It would serve others unencrypted.
        ListenError: It is malformed, taken, or not of this machine.
    """
    listen = config.listen
    check_free(listen)
    _check_encrypted(listen, config, encrypted=certificates is not None)
    try:
        with _owner_only():
            if certificates is None:
                port = server.add_insecure_port(listen)
            else:
                port = server.add_secure_port(listen, certificates.server_credentials())
    except RuntimeError as error:
        raise ListenError(f"cannot listen on {listen}: gRPC could not bind it") from error
    return listen if listen.startswith(UNIX) else f"{listen.rpartition(':')[0]}:{port}"


def bind_http(config: ServeConfig, *, encrypted: bool) -> tuple[socket.socket, str]:
    """Binds the HTTP address; returns a socket that listens, and the address as a client would dial it.

    Raises:
        ConfigError: It would serve others unencrypted, or is a Unix socket.
        ListenError: It is malformed, taken, or not of this machine.
    """
    listen = config.http.listen
    if listen.startswith(UNIX):
        raise ConfigError(f"--http-listen is {listen}: the HTTP door listens on HOST:PORT")
    check_free(listen)
    _check_encrypted(listen, config, encrypted=encrypted)
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sends small writes at once only where the protocol is named; else answers wait 40 ms for an ACK.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, int(port)))
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        raise ListenError(f"cannot listen on {listen} for HTTP: {error.strerror or error}") from error
    return listening, f"{listen.rpartition(':')[0]}:{listening.getsockname()[1]}"


def check_page(listen: str, *, insecure: bool) -> None:
    """Checks the address of a page that is never encrypted.

    Raises:
        ConfigError: It would serve others, and that was not asked for.
    """
    if not is_local(listen) and not insecure:
        raise ConfigError(
            f"the metrics page at {listen} would be unencrypted beyond this machine: listen on 127.0.0.1, "
            "or give --insecure if the network is trusted"
        )


def _check_encrypted(listen: str, config: ServeConfig, *, encrypted: bool) -> None:
    if listen.startswith(UNIX) and encrypted:
        raise ConfigError(
            f"{listen} is its owner's alone and needs no TLS, which clients could not check without a "
            "host name: leave out --tls-cert and --tls-key, or listen on HOST:PORT"
        )
    if is_local(listen) or encrypted:
        return
    if config.auth.token_file is not None or config.auth.admin_token_file is not None:
        raise ConfigError(
            f"tokens would travel unencrypted to {listen}: give --tls-cert and --tls-key, or listen "
            "on 127.0.0.1 behind a proxy that encrypts"
        )
    if not config.insecure:
        raise ConfigError(
            f"{listen} can be dialled from other machines, and would be unencrypted: give --tls-cert "
            "and --tls-key, listen on 127.0.0.1, or give --insecure if the network is trusted"
        )
    _log.warning("unencrypted address=%s advice=%r", listen, "give --tls-cert and --tls-key")


@contextlib.contextmanager
def _owner_only() -> Iterator[None]:
    """Lets nobody else open the files that are made meanwhile, from their first moment."""
    before = os.umask(_NOT_FOR_OTHERS)
    try:
        yield
    finally:
        os.umask(before)


def is_local(listen: str) -> bool:
    """Returns whether only this machine can dial the address."""
    if listen.startswith(UNIX):
        return True
    host = listen.rpartition(":")[0].strip("[]")
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def check_free(listen: str) -> None:
    """Tries the address.

    Raises:
        ListenError: It is malformed, taken, or not of this machine.
    """
    try:
        if listen.startswith(UNIX):
            _check_unix(Path(listen.removeprefix(UNIX)))
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
