"""TLS certificates of the server, taken up again when their files change.

gRPC asks at each handshake, in a thread of its own, whether there is another certificate.
"""

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc

from worker.errors import ConfigError
from worker.operation.rotation import Rotated
from worker.settings.groups import Tls


class Certificates:
    """The certificate, its key, and the authorities of clients.

    Raises:
        ConfigError: A file cannot be read, or they do not belong together.
    """

    def __init__(self, tls: Tls) -> None:
        files = [path for path in (tls.cert, tls.key, tls.client_ca) if path is not None]
        self._mutual = tls.client_ca is not None
        self._rotated: Rotated[Any] = Rotated("TLS certificate", files, lambda: read_certificates(tls))

    def server_credentials(self) -> grpc.ServerCredentials:
        """Returns credentials of gRPC that follow the files; clients must show a certificate if wanted."""
        return grpc.dynamic_ssl_server_credentials(
            self._rotated.get(), self._newer(), require_client_authentication=self._mutual
        )

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
            return current

        return newer


def read_certificates(tls: Tls) -> Any:
    """Reads certificate, key and authorities as gRPC's `ServerCertificateConfiguration`.

    Raises:
        ConfigError: The key is not the certificate's, or a file is no PEM.
        OSError: One cannot be read.
    """
    if tls.cert is None or tls.key is None:
        raise ConfigError("TLS needs --tls-cert and --tls-key")
    chain, key = tls.cert.read_bytes(), tls.key.read_bytes()
    authorities = None if tls.client_ca is None else tls.client_ca.read_bytes()
    _check(tls.cert, tls.key, tls.client_ca)
    return grpc.ssl_server_certificate_configuration([(key, chain)], root_certificates=authorities)


def _check(cert: Path, key: Path, client_ca: Path | None) -> None:
    # gRPC says nothing of a wrong certificate but refuses every handshake; Python's own TLS checks it.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
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
