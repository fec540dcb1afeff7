"""Settings of how a server is operated: encryption, tokens, metrics, traces, log. Groups of `ServeConfig`."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

from worker.errors import ConfigError


@dataclass(frozen=True)
class Tls:
    """Encryption of the gRPC address. Files are read again when they change, and on SIGHUP.

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
