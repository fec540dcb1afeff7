"""Certificates for tests, made by the `openssl` command; a day long."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1")


@dataclass(frozen=True)
class Pair:
    """PEM files of a certificate and its key."""

    cert: Path
    key: Path


class Authority:
    """An authority that signs certificates for localhost and 127.0.0.1; in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        if shutil.which("openssl") is None:
            pytest.skip("the openssl command makes the certificates, and it is not installed")
        folder.mkdir()
        self._folder = folder
        self.pair = self._files("authority")
        _openssl("req", "-x509", *_KEY, "-keyout", self.pair.key, "-out", self.pair.cert, "-subj", "/CN=test")

    def sign(self, name: str) -> Pair:
        """Makes a certificate of that common name."""
        pair = self._files(name)
        request = self._folder / f"{name}.csr"
        extensions = self._folder / "extensions"
        extensions.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        _openssl("req", *_KEY, "-keyout", pair.key, "-out", request, "-subj", f"/CN={name}")
        _openssl(
            *("x509", "-req", "-in", request, "-out", pair.cert, "-days", "1", "-extfile", extensions),
            *("-CA", self.pair.cert, "-CAkey", self.pair.key, "-CAcreateserial"),
        )
        return pair

    def _files(self, name: str) -> Pair:
        return Pair(self._folder / f"{name}.pem", self._folder / f"{name}.key")


def _openssl(*arguments: str | Path) -> None:
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, timeout=60)  # noqa: S607
    assert done.returncode == 0, done.stderr
