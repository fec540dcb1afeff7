"""What is served, where, to whom, and how much of it at once."""

from dataclasses import dataclass, field
from pathlib import Path

from indexer.client import Access
from indexer.errors import ConfigError


@dataclass(frozen=True)
class Limits:
    """What one caller, and all of them, may ask for.

    Attributes:
        max_k: Hits for each query.
        max_queries: Texts or vectors of one call.
        max_concurrent: Calls at once, those that wait for the pool or a core included; more are told to come
            back.
        threads: Searches that compute at once, each on one core; None: as many as this process has cores.
        pool_seconds: How long a pool that is away or overloaded is waited for.
        drain_seconds: How long calls under way may take once the server is to stop.
    """

    max_k: int = 1000
    max_queries: int = 64
    max_concurrent: int = 128
    threads: int | None = None
    pool_seconds: float = 5.0
    drain_seconds: float = 30.0

    def __post_init__(self) -> None:
        """Checks the fields; raises ConfigError."""
        for name in ("max_k", "max_queries", "max_concurrent", "threads"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ConfigError(f"--{name.replace('_', '-')} is {value}, wanted at least 1")
        for name in ("pool_seconds", "drain_seconds"):
            if (value := getattr(self, name)) < 0:
                raise ConfigError(f"--{name.replace('_', '-')} is {value}, wanted 0 or more")


@dataclass(frozen=True)
class ServeConfig:
    """Everything that `serve` does.

    Attributes:
        index: Folder of the index.
        targets: Addresses of pools.
        listen: HOST:PORT, port 0 for a free one, or unix:PATH.
        access: What opens the pools.
        mapped: Leave the FAISS index in its files.
        tls_cert: PEM file of the server's certificate; None for connections that are not encrypted.
        tls_key: PEM file of its key.
        token_file: Bearer tokens of those who may search; None: everybody may.
        insecure: Serve other machines unencrypted.
        limits: How much at once.
    """

    index: Path
    targets: tuple[str, ...]
    listen: str = "127.0.0.1:50052"
    access: Access = field(default_factory=Access)
    mapped: bool = False
    tls_cert: Path | None = None
    tls_key: Path | None = None
    token_file: Path | None = None
    insecure: bool = False
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        """Checks the fields; raises ConfigError."""
        if (self.tls_cert is None) != (self.tls_key is None):
            missing, given = ("key", "cert") if self.tls_key is None else ("cert", "key")
            raise ConfigError(f"--tls-{given} is given without --tls-{missing}: TLS needs both")
