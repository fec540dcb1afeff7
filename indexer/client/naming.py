"""What a target names: one pool at an address, or all addresses that a name has in the DNS. No I/O.

`dns:///NAME:PORT` and `dns:NAME:PORT` are gRPC's own words for the second (grpc/doc/naming.md). Everything
else is one pool, and what is dialled: `HOST:PORT`, `[::1]:PORT`, `unix:PATH`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from indexer.errors import ConfigError

_SCHEME: Final = "dns:"


@dataclass(frozen=True)
class Name:
    """A name that stands for all its addresses.

    Attributes:
        target: As the caller wrote it.
        host: What is looked up; pools behind it bear it in their certificates.
        port: Where they listen, 1 to 65535.
    """

    target: str
    host: str
    port: int


@dataclass(frozen=True)
class Endpoint:
    """One pool to be called.

    Attributes:
        address: What is dialled.
        host: What its certificate must bear and the call's authority is; "" for what the address says.
        origin: The target that names it.
    """

    address: str
    host: str
    origin: str

    @property
    def named(self) -> bool:
        """Whether a name led to it, and may lead elsewhere later."""
        return self.address != self.origin


def split(targets: str | Sequence[str]) -> list[str]:
    """Returns targets, each once, from a sequence or with commas between them.

    Raises:
        ConfigError: There is none, or one is malformed.
    """
    parts = targets.split(",") if isinstance(targets, str) else targets
    found = list(dict.fromkeys(part.strip() for part in parts if part.strip()))
    if not found:
        raise ConfigError(
            f"targets '{targets}' name no address; give HOST:PORT, unix:PATH or dns:///NAME:PORT"
        )
    for target in found:
        name_of(target)
    return found


def name_of(target: str) -> Name | None:
    """Returns the name that a target is, None for an address; raises ConfigError for a malformed name."""
    if not target.startswith(_SCHEME):
        return None
    rest = target.removeprefix(_SCHEME)
    if rest.startswith("//"):
        server, slash, rest = rest.removeprefix("//").partition("/")
        if server or not slash:
            raise ConfigError(
                f"target {target} has '{server}' where a DNS server would stand, and the system's own is "
                f"asked: write dns:///{rest or server or 'NAME:PORT'}, with three slashes"
            )
    host, _, port = rest.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    if not bare or not port.isascii() or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ConfigError(f"target {target} has no name and port from 1 to 65535; write dns:///NAME:PORT")
    if ":" in bare and not host.startswith("["):
        raise ConfigError(f"target {target} has several colons; write an IPv6 address as dns:///[::1]:PORT")
    return Name(target, bare, int(port))


def joined(ip: str, port: int) -> str:
    """Returns the address of an IP address and a port."""
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"
