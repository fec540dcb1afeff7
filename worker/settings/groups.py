"""Settings of how a server is operated: encryption, tokens, HTTP, metrics, traces, log.

Groups of `ServeConfig`.
"""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

from worker.errors import ConfigError


@dataclass(frozen=True)
class Tls:
    """Encryption of the gRPC and the HTTP address. Files are read again when they change, and on SIGHUP.

    Attributes:
        cert: PEM file of the server's certificate, and of those between it and the authority's.
        key: PEM file of the certificate's private key.
        client_ca: PEM file of the clients' authorities: callers without a certificate of theirs are refused.

    Raises:
        ConfigError: A file is named without one that it needs.
    """

    cert: Path | None = None
    key: Path | None = None
    client_ca: Path | None = None

    def __post_init__(self) -> None:
        if (self.cert is None) != (self.key is None):
            missing, given = ("tls-key", "tls-cert") if self.key is None else ("tls-cert", "tls-key")
            raise ConfigError(f"--{given} is given without --{missing}: TLS needs both")
        if self.client_ca is not None and self.cert is None:
            raise ConfigError("--tls-client-ca is given without --tls-cert and --tls-key")


@dataclass(frozen=True)
class Auth:
    """Who may call. A file has a token a line, a name before it where wanted; # begins a comment.

    Attributes:
        token_file: File of bearer tokens of those who may embed; without it everybody may.
        admin_token_file: File of bearer tokens of those who may also reload; without it nobody may by RPC.
    """

    token_file: Path | None = None
    admin_token_file: Path | None = None


@dataclass(frozen=True)
class Http:
    """OpenAI's `/v1/embeddings` over HTTP, beside gRPC. The certificate and the tokens hold here too.

    Attributes:
        listen: HOST:PORT of the HTTP door (port 0: a free one, told in the log); needs the `http` extra.
            Without it there is none.
        served_names: Further names by which requests may call the model, with commas between them; its own
            is always known.
        max_inputs: Texts of one request; OpenAI's own limit.
        max_body_bytes: Bytes of the body of one request; 0 for what gRPC reads of one message, which follows
            from the other limits.
        max_body_bytes_in_flight: Bytes of bodies that all requests together may hold here; arbitrary.
        max_connections: Connections at the same moment; arbitrary, below the 1024 files that a process may
            open where nobody raised that.
        read_seconds: Seconds in which the head of a request must have come, and then its body; arbitrary.

    Raises:
        ConfigError: A limit is below 1, or one body does not fit into all.
    """

    listen: str = ""
    served_names: str = ""
    max_inputs: int = 2048
    max_body_bytes: int = 0
    max_body_bytes_in_flight: int = 64 * 1024 * 1024
    max_connections: int = 512
    read_seconds: float = 30.0

    def __post_init__(self) -> None:
        if self.max_body_bytes < 0:
            raise ConfigError(f"--http-max-body-bytes is {self.max_body_bytes}, it must be 0 or more")
        for name in ("max_inputs", "max_body_bytes_in_flight", "max_connections", "read_seconds"):
            if getattr(self, name) <= 0:
                flag = "--http-" + name.replace("_", "-")
                raise ConfigError(f"{flag} is {getattr(self, name)}, it must be above 0")
        if self.max_body_bytes > self.max_body_bytes_in_flight:
            raise ConfigError(
                f"--http-max-body-bytes is {self.max_body_bytes} and --http-max-body-bytes-in-flight is "
                f"{self.max_body_bytes_in_flight}: the first must fit into the second"
            )

    @property
    def names(self) -> tuple[str, ...]:
        """The further names of the model."""
        return tuple(name.strip() for name in self.served_names.split(",") if name.strip())


@dataclass(frozen=True)
class Metrics:
    """The page for Prometheus.

    Attributes:
        listen: HOST:PORT of the metrics page (port 0: a free one, told in the log); without it there is none.
    """

    listen: str = ""


@dataclass(frozen=True)
class Tracing:
    """Where traces go.

    Attributes:
        endpoint: URL of an OpenTelemetry collector (OTLP over gRPC), for example http://127.0.0.1:4317; needs
            the `tracing` extra. Without it nothing is traced.
        ratio: Share of the requests that are traced, 0 to 1, where the caller has not decided.

    Raises:
        ConfigError: The endpoint is no URL or holds a password, or the ratio is no share.
    """

    endpoint: str = ""
    ratio: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.ratio <= 1:
            raise ConfigError(f"--trace-ratio is {self.ratio}, it must be 0 to 1")
        url = urlsplit(self.endpoint)
        if "@" in url.netloc:
            raise ConfigError(
                "--trace-endpoint holds a user or a password, which would be printed and logged; "
                "put them into the variable OTEL_EXPORTER_OTLP_HEADERS"
            )
        if self.endpoint and (url.scheme not in ("http", "https") or not url.netloc):
            raise ConfigError(
                f"--trace-endpoint is {self.endpoint!r}, it must be http:// or https://HOST:PORT"
            )


class LogLevel(StrEnum):
    """Lowest level that is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    """Form of a log line."""

    TEXT = "text"  # key=value
    JSON = "json"


@dataclass(frozen=True)
class Log:
    """The log on stderr.

    Attributes:
        level: Lowest level that is logged on stderr.
        format: Form of a line of the log.
    """

    level: LogLevel = LogLevel.INFO
    format: LogFormat = LogFormat.TEXT
