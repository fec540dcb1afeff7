"""Every setting of the server, checked once.

Flags, environment variables and the keys of a TOML file are derived from these classes, their types and the
`Attributes` of their docstrings (`table.py`): a field that is added here is a setting everywhere. The
flags and variables of a group begin with the group's prefix.
"""

from dataclasses import dataclass, field, fields
from pathlib import Path

from worker.errors import ConfigError
from worker.settings.groups import Auth, Http, Log, Metrics, Tls, Tracing

_KIB = 1024
_MIB = 1024 * _KIB


@dataclass(frozen=True)
class Limits:
    """What one caller may ask for; each number is reported by GetModel.

    Attributes:
        max_text_bytes: Bytes of one text, UTF-8.
        max_query_texts: Texts of one EmbedQuery.
        max_batch_items: Texts of one EmbedDocuments message. Its answer of 512 × 1024 float32 values stays
            below the 4 MiB that gRPC clients accept by default.
        max_batch_bytes: Text bytes of one EmbedDocuments message.
        max_stream_bytes_in_flight: Bytes that one stream may hold here, accepted and not yet written back.
        max_query_bytes_in_flight: Bytes that all queries together may hold here.

    Raises:
        ConfigError: A limit is below 1, or smaller than one that must fit into it.
    """

    max_text_bytes: int = _MIB
    max_query_texts: int = 32
    max_batch_items: int = 512
    max_batch_bytes: int = 8 * _MIB
    max_stream_bytes_in_flight: int = 16 * _MIB
    max_query_bytes_in_flight: int = 16 * _MIB

    def __post_init__(self) -> None:
        for limit in fields(self):
            if getattr(self, limit.name) < 1:
                raise ConfigError(f"{limit.name} is {getattr(self, limit.name)}, it must be at least 1")
        for small, large in (
            ("max_text_bytes", "max_batch_bytes"),
            ("max_batch_bytes", "max_stream_bytes_in_flight"),
            ("max_text_bytes", "max_query_bytes_in_flight"),
        ):
            if getattr(self, small) > getattr(self, large):
                raise ConfigError(
                    f"{small} is {getattr(self, small)} and {large} is {getattr(self, large)}: "
                    "the first must fit into the second"
                )

    @property
    def max_message_bytes(self) -> int:
        """Bytes of the largest message that gRPC reads.

        Leaves room to read what breaks a limit by one text, so that the answer can name the limit.
        """
        largest = max(self.max_batch_bytes, self.max_query_bytes_in_flight)
        return largest + self.max_text_bytes + 16 * self.max_batch_items + 64 * _KIB


@dataclass(frozen=True)
class ServeConfig:
    """Settings of `python -m worker serve`.

    Attributes:
        bundle: Folder of the bundle to serve.
        listen: HOST:PORT (port 0: a free one) or unix:PATH.
        processes: Compute processes, each one thread; auto: one per usable CPU.
        pins: CPU of each process, or None for a process that floats over the affinity mask.
        insecure: Whether to listen beyond this machine without TLS.
        drain_seconds: Seconds that accepted work may take after the signal to stop.
        stop_on_stdin_close: Whether the end of stdin is a signal to stop.
        max_run_tokens: Tokens that the texts of one run sum up to, unless it is a single text. Above about 64
            a shared run is no faster per token than single ones, and a query waits longer for its end.
        max_streams: Bulk streams served at the same moment, all callers together; arbitrary. Times
            max_stream_bytes_in_flight it bounds the memory of bulk work.
        max_tokens: Tokens of one text, special tokens included, below the model's own; 0 for the model's. A
            smaller number makes other vectors, so it is served under a fingerprint of its own.
        max_windows: Windows of one text that is embedded in windows; what lies behind them is cut.
        bulk_share: Share of the computed tokens that waiting bulk work gets under a flood of queries.
        max_query_wait_seconds: Seconds that a query may be expected to wait for a process; who would wait
            longer is refused, and told when to come back. Arbitrary: most callers have given up by then.
        hang_seconds: Seconds without any progress after which a process is held to hang and is replaced;
            arbitrary, far above what a busy machine takes from a process.
        start_seconds: Seconds in which a process must have loaded the model; arbitrary.
        run_seconds: Seconds after which a process that still computes one run is held to be stuck and is
            ended; arbitrary, a run takes well below a second.
        limits: What one caller may ask for.
        tls: Encryption of the gRPC and the HTTP address.
        auth: Who may call.
        http: OpenAI's `/v1/embeddings` over HTTP.
        metrics: The page for Prometheus.
        tracing: Where traces go.
        log: The log on stderr.

    Raises:
        ConfigError: A setting is out of range.
    """

    bundle: Path
    listen: str = "127.0.0.1:50051"
    processes: int = field(default=1, metadata={"auto": True})
    pins: tuple[int | None, ...] = field(default=(None,), metadata={"derived": True})
    insecure: bool = False
    drain_seconds: float = 30.0
    stop_on_stdin_close: bool = False
    max_run_tokens: int = 64
    max_streams: int = 64
    max_tokens: int = 0
    max_windows: int = 64
    bulk_share: float = 0.1
    max_query_wait_seconds: float = 5.0
    hang_seconds: float = 5.0
    start_seconds: float = 120.0
    run_seconds: float = 60.0
    limits: Limits = field(default_factory=Limits, metadata={"prefix": ""})
    tls: Tls = field(default_factory=Tls, metadata={"prefix": "tls-"})
    auth: Auth = field(default_factory=Auth, metadata={"prefix": ""})
    http: Http = field(default_factory=Http, metadata={"prefix": "http-"})
    metrics: Metrics = field(default_factory=Metrics, metadata={"prefix": "metrics-"})
    tracing: Tracing = field(default_factory=Tracing, metadata={"prefix": "trace-"})
    log: Log = field(default_factory=Log, metadata={"prefix": "log-"})

    def __post_init__(self) -> None:
        if self.processes < 1 or len(self.pins) != self.processes:
            raise ConfigError(
                f"processes is {self.processes} with {len(self.pins)} pins, wanted one pin each"
            )
        if self.drain_seconds < 0:
            raise ConfigError(f"drain_seconds is {self.drain_seconds}, it must not be negative")
        if not 0 <= self.bulk_share < 1:
            raise ConfigError(f"bulk_share is {self.bulk_share}, it must be at least 0 and below 1")
        if self.max_tokens < 0:
            raise ConfigError(f"max_tokens is {self.max_tokens}, it must be 0 (the model's) or more")
        for name in (
            "max_run_tokens",
            "max_streams",
            "max_windows",
            "max_query_wait_seconds",
            "hang_seconds",
            "start_seconds",
            "run_seconds",
        ):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name} is {getattr(self, name)}, it must be above 0")
