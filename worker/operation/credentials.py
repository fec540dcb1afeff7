"""TLS certificates of the server, taken up again when their files change.

gRPC asks at each handshake, in a thread of its own, whether there is another certificate; Python's TLS, which
the HTTP door uses, changes the context of a handshake that has begun.
"""

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import grpc

from worker.errors import ConfigError
from worker.operation.rotation import Rotated
from worker.settings.groups import Tls


class Loaded(NamedTuple):
    """What one reading of the files gave: gRPC's `ServerCertificateConfiguration`, and Python's context."""

    configuration: Any
    context: ssl.SSLContext


class Certificates:
    """The certificate, its key, and the authorities of clients.

    Raises:
        ConfigError: A file cannot be read, or they do not belong together.
    """

    def __init__(self, tls: Tls) -> None:
        files = [path for path in (tls.cert, tls.key, tls.client_ca) if path is not None]
        self._tls = tls
        self._mutual = tls.client_ca is not None
        self._rotated: Rotated[Loaded] = Rotated("TLS certificate", files, lambda: read_certificates(tls))

    def server_credentials(self) -> grpc.ServerCredentials:
        """Returns credentials of gRPC that follow the files; clients must show a certificate if wanted."""
        return grpc.dynamic_ssl_server_credentials(
            self._rotated.get().configuration, self._newer(), require_client_authentication=self._mutual
        )

    def context(self) -> ssl.SSLContext:
        """Returns a context for HTTP servers of this process; each handshake gets what the files hold then.

        That goes for the clients' authorities as well: loading into a context in place would only add some.
        """

        def newest(handshake: ssl.SSLObject, name: str | None, first: ssl.SSLContext) -> None:
            handshake.context = self._rotated.get().context

        context = read_certificates(self._tls).context
        context.sni_callback = newest
        return context

    def look(self) -> None:
        """Reads the files again if they changed."""
        self._rotated.look()

    def _newer(self) -> Callable[[], Any]:
        served = self._rotated.get()

        def newer() -> Any:
            nonlocal served
            if (current := self._rotated.get()) is served:
                return None
            served = current
            return current.configuration

        return newer


def read_certificates(tls: Tls) -> Loaded:
    """Reads certificate, key and authorities.

    Raises:
        ConfigError: The key is not the certificate's, or a file is no PEM.
        OSError: One cannot be read.
    """
    if tls.cert is None or tls.key is None:
        raise ConfigError("TLS needs --tls-cert and --tls-key")
    chain, key = tls.cert.read_bytes(), tls.key.read_bytes()
    authorities = None if tls.client_ca is None else tls.client_ca.read_bytes()
    # gRPC says nothing of a wrong certificate but refuses every handshake; Python's own TLS checks it.
    context = _context(tls.cert, tls.key, tls.client_ca)
    configuration = grpc.ssl_server_certificate_configuration([(key, chain)], root_certificates=authorities)
    return Loaded(configuration, context)


def _context(cert: Path, key: Path, client_ca: Path | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(cert, key, password=lambda: b"")
    except ssl.SSLError as error:
        raise ConfigError(
            f"{cert} and {key} are no certificate and its key in PEM, without a password: "
            f"{error.reason or 'no PEM'}"
        ) from None
    if client_ca is not None:
        try:
            context.load_verify_locations(client_ca)
        except ssl.SSLError as error:
            raise ConfigError(
                f"{client_ca} holds no certificate in PEM: {error.reason or 'no PEM'}"
            ) from None
        context.verify_mode = ssl.CERT_REQUIRED
    return context
