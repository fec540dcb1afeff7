"""What proves who the server is, and who its callers are: certificates and bearer tokens, from files."""

import hashlib
import hmac
import logging
import ssl
import stat
from collections.abc import Callable
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any

import grpc

from indexer.client.settings import read_file
from indexer.errors import ConfigError
from indexer.serving.rotation import Rotated

_log = logging.getLogger(__name__)

_SHORT = 22  # characters below which a token is warned of: 128 bits in base 64
_SCHEME = "bearer "


class Tokens:
    """The tokens of those who may search.

    Lines of their file are `TOKEN` or `NAME TOKEN`; a word that begins with # begins a comment.

    Comparing takes the same time for every wrong token: hashes of equal length are compared, all of them.

    Raises:
        ConfigError: The file cannot be read, holds no token, or a line that is none.
    """

    def __init__(self, path: Path) -> None:
        self._digests = Rotated([path], partial(_read_tokens, path))

    def known(self, authorization: str) -> bool:
        """Returns whether the `authorization` metadata of a call shows a token of the file."""
        scheme, token = authorization[: len(_SCHEME)], authorization[len(_SCHEME) :].strip()
        digest = _digest(token)
        matches = [hmac.compare_digest(known, digest) for known in self._digests.get()]
        return scheme.lower() == _SCHEME and any(matches)


def _read_tokens(path: Path) -> list[bytes]:
    lines = read_file(path, "token file").decode(errors="replace").splitlines()
    if stat.S_IMODE(path.stat().st_mode) & (stat.S_IRWXG | stat.S_IRWXO):
        _log.warning("token file open to others file=%r advice=%r", str(path), "chmod 600")
    tokens = []
    for number, line in enumerate(lines, 1):
        words = list(takewhile(lambda word: not word.startswith("#"), line.split()))
        if len(words) > 2:
            raise ConfigError(
                f"line {number} of the token file {path} has {len(words)} words, wanted [NAME] TOKEN"
            )
        if words and len(words[-1]) < _SHORT:
            _log.warning("token is short file=%r line=%d wanted_characters=%d", str(path), number, _SHORT)
        tokens += words[-1:]
    if not tokens:
        raise ConfigError(f"the token file {path} holds no token: write one a line")
    return [_digest(token) for token in tokens]


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def server_credentials(cert: Path, key: Path) -> Any:
    """Returns gRPC's credentials, which follow the files when they are replaced.

    Raises:
        ConfigError: A file cannot be read, or the key is not the certificate's.
    """
    rotated = Rotated([cert, key], partial(_read_certificate, cert, key))
    return grpc.dynamic_ssl_server_credentials(rotated.get(), _newer(rotated))


def _newer(rotated: Rotated[Any]) -> Callable[[], Any]:
    """Returns what gRPC asks at each handshake: another certificate, or None while it is the same."""
    served = rotated.get()

    def newer() -> Any:
        nonlocal served
        if (current := rotated.get()) is served:
            return None
        served = current
        return current

    return newer


def _read_certificate(cert: Path, key: Path) -> Any:
    chain, private = read_file(cert, "certificate"), read_file(key, "key")
    # gRPC says nothing of a wrong certificate but refuses every handshake; Python's own TLS checks it.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(cert, key, password=lambda: b"")
    except (ssl.SSLError, OSError) as error:
        raise ConfigError(
            f"{cert} and {key} are no certificate and its key in PEM, without a password: "
            f"{getattr(error, 'reason', None) or 'no PEM'}"
        ) from None
    return grpc.ssl_server_certificate_configuration([(private, chain)])
