"""How `info` and `reload` reach a running server: address, TLS, token."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import grpc

from worker.errors import ConfigError, UnavailableError
from worker.operation.listen import is_local

_Answer = TypeVar("_Answer")
_NOBODY = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


@dataclass(frozen=True)
class Dial:
    """Where a server is and what to show there.

    Attributes:
        target: HOST:PORT or unix:PATH.
        timeout: Seconds to wait for each answer.
        tls_ca: PEM file of the authorities of the server's certificate; without it nothing is encrypted.
        tls_cert: PEM file of our certificate, where the server wants one.
        tls_key: Its private key.
        token_file: File whose first token is shown.

    Raises:
        ConfigError: The parts do not fit together, or a token would travel unencrypted.
    """

    target: str
    timeout: float
    tls_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    token_file: Path | None = None

    def __post_init__(self) -> None:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ConfigError("--tls-cert and --tls-key belong together: give both")
        if self.tls_cert is not None and self.tls_ca is None:
            raise ConfigError("--tls-cert needs --tls-ca, the authorities of the server's certificate")
        if self.token_file is not None and self.tls_ca is None and not is_local(self.target):
            raise ConfigError(f"the token would travel unencrypted to {self.target}: give --tls-ca")

    @contextmanager
    def channel(self) -> Iterator[grpc.Channel]:
        """Opens a channel.

        Raises:
            ConfigError: A file cannot be read.
        """
        if self.tls_ca is None:
            with grpc.insecure_channel(self.target) as channel:
                yield channel
            return
        files = [None if path is None else _read(path) for path in (self.tls_ca, self.tls_key, self.tls_cert)]
        with grpc.secure_channel(self.target, grpc.ssl_channel_credentials(*files)) as channel:
            yield channel

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Returns what to send with each call.

        Raises:
            ConfigError: The token file cannot be read or holds none.
        """
        if self.token_file is None:
            return ()
        words = [line.partition("#")[0].split() for line in _read(self.token_file).decode().splitlines()]
        token = next((line[-1] for line in words if line), None)
        if token is None:
            raise ConfigError(f"the token file {self.token_file} holds no token")
        return (("authorization", f"Bearer {token}"),)

    def ask(self, method: Callable[..., _Answer], request: Any) -> _Answer:
        """Calls a method of a stub, with token and deadline.

        Raises:
            UnavailableError: No server answers, or it refuses; the message says which.
        """
        try:
            return method(request, timeout=self.timeout, wait_for_ready=True, metadata=self.metadata())
        except grpc.RpcError as error:
            told = f"{error.code().name}: {error.details()}"
            if error.code() in _NOBODY:
                raise UnavailableError(
                    f"no embedpool server answers at {self.target} within {self.timeout:g} s ({told}); is it "
                    "running there, and does it want TLS?"
                ) from error
            raise UnavailableError(f"the server at {self.target} refused: {told}") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
