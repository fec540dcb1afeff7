"""The address to listen on: is it well-formed, free, and safe?

gRPC says only that binding failed, and silently takes over the socket file of a living server; so addresses
are tried first.
"""

import contextlib
import ipaddress
import socket
from pathlib import Path

from worker.errors import ListenError

UNIX = "unix:"


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
