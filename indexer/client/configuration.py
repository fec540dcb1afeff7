"""What a client is told when it is made, and what each of its calls is told. No I/O."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict, Unpack

from indexer.client.settings import (
    Access,
    Chunking,
    HedgeConfig,
    NameConfig,
    Options,
    RetryConfig,
    TlsConfig,
    VectorType,
)
from indexer.config import FlowConfig


def _be_silent(line: str) -> None:
    """Says nothing."""


@dataclass(frozen=True)
class ClientConfig:
    """What `Client` and `AsyncClient` take as keywords.

    Attributes:
        tls: How to know the pools; None for connections that are not encrypted.
        token: Bearer token, or the path of the file that holds it, which is read again for each call.
        plaintext_token: Whether a token may travel unencrypted beyond this machine.
        retry: How long and how often a call is tried.
        hedge: When a query that waits for long is also asked of a second pool.
        names: How targets of the kind `dns:///NAME:PORT` are followed.
        flow: How documents flow: batches, bytes held (8 MiB where none is given), patience with pools that
            are away (`retry_seconds`).
        fingerprint: The model that the pools must serve; "" for the one that the first of them serves.
        mixed_models: Whether the pools may serve different models; each answer names its own, and one result
            never mixes them.
        log: Takes a line for people when a pool joins or leaves, a name fails, or a pool of a bulk call goes
            or comes back.
    """

    tls: TlsConfig | None = None
    token: str | Path | None = field(default=None, repr=False)
    plaintext_token: bool = False
    retry: RetryConfig = field(default_factory=RetryConfig)
    hedge: HedgeConfig = field(default_factory=HedgeConfig)
    names: NameConfig = field(default_factory=NameConfig)
    flow: FlowConfig = field(default_factory=lambda: FlowConfig(bytes_in_flight=8 << 20))
    fingerprint: str = ""
    mixed_models: bool = False
    log: Callable[[str], None] = _be_silent

    @classmethod
    def of(cls, **settings: Unpack["ClientSettings"]) -> "ClientConfig":
        """Returns the configuration of keywords; None stands for the default."""
        return cls(**{name: value for name, value in settings.items() if value is not None})  # type: ignore[arg-type]

    @property
    def access(self) -> Access:
        """What opens the pools."""
        return Access(self.tls, self.token, self.plaintext_token)


class ClientSettings(TypedDict, total=False):
    """The keywords of a client: the fields of `ClientConfig`, which says what they are."""

    tls: TlsConfig | None
    token: str | Path | None
    plaintext_token: bool
    retry: RetryConfig | None
    hedge: HedgeConfig | None
    names: NameConfig | None
    flow: FlowConfig | None
    fingerprint: str
    mixed_models: bool
    log: Callable[[str], None]


class TextOptions(TypedDict, total=False):
    """The keywords of a call that say how texts are embedded.

    dimensions: Leading values to keep (Matryoshka models), normalized again; 0 for all.
    prompt_name: One of the model's prompts; None for its prompt for queries, or for documents.
    vector_type: How values travel: float32, or float16 or int8 for fewer bytes; they arrive as float32.
    chunking: How texts longer than a window are cut; None for not at all.
    reject_long: Whether a text longer than the model takes is refused instead of cut.
    """

    dimensions: int
    prompt_name: str | None
    vector_type: VectorType | str
    chunking: Chunking | None
    reject_long: bool


def options_of(**words: Unpack[TextOptions]) -> Options:
    """Returns the options of a call's keywords; raises ConfigError, ValueError for a type that is none."""
    return Options(
        vector_type=VectorType(words.get("vector_type", VectorType.FLOAT32)),
        dimensions=words.get("dimensions", 0),
        prompt_name=words.get("prompt_name"),
        reject_long=words.get("reject_long", False),
        chunking=words.get("chunking"),
    )
