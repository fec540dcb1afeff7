"""What a caller may choose: how to reach pools, how to retry, how texts are embedded. No I/O."""

import contextlib
import ipaddress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from indexer.client.resolving import Resolve, look_up
from indexer.errors import ConfigError


class VectorType(StrEnum):
    """How the values of a vector travel; they arrive as float32 whichever it is."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    INT8 = "int8"


@dataclass(frozen=True)
class Chunking:
    """A text longer than a window is embedded as windows that overlap; its vector is their weighted mean.

    Attributes:
        window_tokens: Tokens of a window, special ones included; 0 for the most that the model takes.
        overlap_tokens: Tokens that a window shares with the one before; less than half a window.
    """

    window_tokens: int = 0
    overlap_tokens: int = 0

    def __post_init__(self) -> None:
        """Checks the fields; raises ConfigError."""
        if self.window_tokens < 0 or self.overlap_tokens < 0:
            raise ConfigError(
                f"chunking has window_tokens {self.window_tokens} and overlap_tokens {self.overlap_tokens}, "
                "wanted 0 or more"
            )


@dataclass(frozen=True)
class Options:
    """How texts are embedded.

    Attributes:
        vector_type: How values travel.
        dimensions: Leading values to keep (Matryoshka models), normalized again; 0 for all.
        prompt_name: Name of one of the model's prompts; None for its default of queries or of documents.
        reject_long: Whether a text longer than the model takes is refused instead of cut.
        chunking: How a long text is cut into windows; None for not at all.
        separate: Whether each window keeps a vector of its own; documents only.
        exact: Whether each text is a run of its own, so that its vector has the same bits beside any
            neighbours. Otherwise short texts of equal length may share a run, which leaves the cosine above
            0.99999 and is faster below some 32 tokens.
    """

    vector_type: VectorType = VectorType.FLOAT32
    dimensions: int = 0
    prompt_name: str | None = None
    reject_long: bool = False
    chunking: Chunking | None = None
    separate: bool = False
    exact: bool = False

    def __post_init__(self) -> None:
        """Checks the fields; raises ConfigError."""
        if self.dimensions < 0:
            raise ConfigError(f"dimensions is {self.dimensions}, wanted 0 (all) or more")


@dataclass(frozen=True)
class TlsConfig:
    """How to know the pools, and to be known by them.

    Attributes:
        ca: File of PEM certificates that sign the pools'; None for those that gRPC brings.
        cert: File with this client's own PEM certificate, where the pools ask for one.
        key: File with the PEM key of `cert`.
        server_name: Name that the pools' certificate bears, where it is not the host of the address.
    """

    ca: str | Path | None = None
    cert: str | Path | None = None
    key: str | Path | None = None
    server_name: str | None = None

    def __post_init__(self) -> None:
        """Checks the fields; raises ConfigError."""
        if (self.cert is None) != (self.key is None):
            raise ConfigError("a client certificate needs its key: give both cert and key, or neither")


@dataclass(frozen=True)
class Access:
    """What opens the pools.

    Attributes:
        tls: None for connections that are not encrypted.
        token: Bearer token, or the file that holds it: it is read for each call, so that it may be renewed.
        plaintext_token: Whether a token may travel unencrypted beyond this machine, as inside a mesh that
            encrypts by itself.
    """

    tls: TlsConfig | None = None
    token: str | Path | None = field(default=None, repr=False)
    plaintext_token: bool = False

    def check(self, target: str) -> None:
        """Raises ConfigError when a token would travel to `target` for everyone to read."""
        if self.token is None or self.tls is not None or self.plaintext_token or is_local(target):
            return
        raise ConfigError(
            f"a token would travel to {target} unencrypted; give a TLS configuration (--tls-ca FILE)"
        )

    def read_token(self) -> str:
        """Returns the token as it is now, "" for none; raises ConfigError when its file gives none."""
        if not isinstance(self.token, Path):
            return self.token or ""
        token = read_file(self.token, "token file").decode(errors="replace").strip()
        if len(token.split()) != 1 or not token.isascii() or not token.isprintable():
            raise ConfigError(f"token file {self.token} holds no token: it is one word of ASCII and no more")
        return token


def read_file(path: str | Path, name: str) -> bytes:
    """Returns the bytes of a file; raises ConfigError that names it."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read the {name} {path}: {error.strerror or error}") from error


def is_local(target: str) -> bool:
    """Returns whether what goes to an address stays on this machine."""
    if target.startswith(("unix:", "unix-abstract:")):
        return True
    plain = target.removeprefix("ipv4:").removeprefix("ipv6:").removeprefix("dns:").removeprefix("///")
    host = plain.rpartition(":")[0].strip("[]")
    with contextlib.suppress(ValueError):  # a name, or several addresses
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


@dataclass(frozen=True)
class RetryConfig:
    """How long and how often a call is tried; all seconds.

    Attributes:
        first_delay: Upper bound of the wait after the first failure; it doubles with each further one.
        last_delay: It does not grow beyond this.
        attempt: After so long an attempt is given up and another pool asked, however much time is left.
        budget_ratio: Retries that each call earns for all: in an outage a client sends little more than
            it would without one.
        budget_per_second: Retries earned by time alone, so that a client with few calls can retry too.
        budget_reserve: Retries saved at most, and there at the start.
    """

    first_delay: float = 0.1
    last_delay: float = 5.0
    attempt: float = 20.0
    budget_ratio: float = 0.2
    budget_per_second: float = 1.0
    budget_reserve: float = 20.0

    def __post_init__(self) -> None:
        """Checks the fields; raises ConfigError."""
        if not 0 < self.first_delay <= self.last_delay or self.attempt <= 0:
            raise ConfigError(
                f"retry delays are {self.first_delay} to {self.last_delay} s and an attempt takes "
                f"{self.attempt} s, wanted rising delays and all above 0"
            )
        if min(self.budget_ratio, self.budget_per_second, self.budget_reserve) < 0:
            raise ConfigError("a retry budget is negative, wanted 0 or more")


@dataclass(frozen=True)
class HedgeConfig:
    """When a query that waits for long is also asked of a second pool, whose answer may come first.

    As in J. Dean and L. A. Barroso, "The Tail at Scale" (2013): after a multiple of the time that most
    queries of that size take, and for a small share of the queries only.

    Attributes:
        factor: How many times the 95th percentile of the last answers is long; 0 for no second pool ever.
        first_delay: Seconds until that while too few answers are known.
        least_delay: Seconds until that at the least.
        ratio: Second requests that each query earns for all.
        reserve: Second requests saved at most, and there at the start.
    """

    factor: float = 2.0
    first_delay: float = 1.0
    least_delay: float = 0.02
    ratio: float = 0.1
    reserve: float = 10.0

    def __post_init__(self) -> None:
        """Checks the fields; raises ConfigError."""
        if min(self.factor, self.ratio, self.reserve) < 0 or not 0 < self.least_delay <= self.first_delay:
            raise ConfigError(
                f"hedging has factor {self.factor:g}, ratio {self.ratio:g} and reserve {self.reserve:g}, "
                f"delays {self.least_delay:g} to {self.first_delay:g} s; wanted 0 or more, and rising delays"
            )


@dataclass(frozen=True)
class NameConfig:
    """How the names of pools (`dns:///NAME:PORT`) are followed.

    Attributes:
        refresh_seconds: Until a name is looked up again; when a pool fails it is looked up at once.
        lookup_seconds: In which the resolver must answer; the pools that are known go on meanwhile.
        most_addresses: Addresses of one name that are used at most: each costs a connection or two.
        resolve: Who is asked: host and port to what can be dialled. It may block, and raises OSError.
    """

    refresh_seconds: float = 10.0
    lookup_seconds: float = 5.0
    most_addresses: int = 256
    resolve: Resolve = look_up

    def __post_init__(self) -> None:
        """Checks the fields; raises ConfigError."""
        if min(self.refresh_seconds, self.lookup_seconds) <= 0 or self.most_addresses < 1:
            raise ConfigError(
                f"names are looked up every {self.refresh_seconds:g} s within {self.lookup_seconds:g} s for "
                f"{self.most_addresses} addresses, wanted all above 0"
            )
