"""Certificates are read whole and sound, or not at all."""

import shutil
from pathlib import Path

import pytest

from tests.integration.certificates import Authority, Pair
from worker.errors import ConfigError
from worker.operation.credentials import Certificates, read_certificates
from worker.operation.listen import check_page, is_local
from worker.operation.rotation import Rotated
from worker.settings.config import ServeConfig
from worker.settings.groups import Tls


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority for the tests of this file."""
    return Authority(tmp_path_factory.mktemp("tls") / "authority")


def tls(pair: Pair, client_ca: Path | None = None) -> Tls:
    """Returns the settings that name a pair of files."""
    return Tls(pair.cert, pair.key, client_ca)


def test_pair_is_taken_and_no_pair_is_not(authority: Authority, tmp_path: Path) -> None:
    """The error names both files, for either may be the wrong one; no byte of a key is in it."""
    one, two = authority.sign("one"), authority.sign("two")
    assert read_certificates(tls(one, authority.pair.cert)) is not None
    with pytest.raises(ConfigError, match=r"one.pem and .*two.key are no certificate") as refused:
        read_certificates(tls(Pair(one.cert, two.key)))
    assert two.key.read_text().splitlines()[1] not in str(refused.value)
    nonsense = tmp_path / "nonsense"
    nonsense.write_text("nonsense")
    with pytest.raises(ConfigError, match="nonsense holds no certificate"):
        read_certificates(tls(one, nonsense))


def test_missing_file_is_named(authority: Authority, tmp_path: Path) -> None:
    """A file that is not there is a setting that is wrong."""
    with pytest.raises(ConfigError, match=r"cannot read the TLS certificate .*missing.pem"):
        Certificates(tls(Pair(tmp_path / "missing.pem", authority.sign("three").key)))


def test_half_a_rotation_is_waited_for(authority: Authority, tmp_path: Path) -> None:
    """Between the new certificate and its new key the old pair is served; then the new one, once."""
    own = Pair(tmp_path / "cert.pem", tmp_path / "key.pem")
    old, new = authority.sign("old"), authority.sign("new")
    for source, target in ((old.cert, own.cert), (old.key, own.key)):
        shutil.copy(source, target)
    rotated = Rotated(
        "pair", [own.cert, own.key], lambda: (read_certificates(tls(own)), own.cert.read_text())[1]
    )
    shutil.copy(new.cert, own.cert)
    rotated.look()
    assert rotated.get() == old.cert.read_text()
    shutil.copy(new.key, own.key)
    rotated.look()
    assert rotated.get() == new.cert.read_text()


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("127.0.0.1:1", True),
        ("127.8.8.8:1", True),
        ("[::1]:1", True),
        ("localhost:1", True),
        ("unix:/run/pool", True),
        ("0.0.0.0:1", False),
        ("[::]:1", False),
        ("10.0.0.1:1", False),
        ("[::ffff:10.0.0.1]:1", False),
        ("localhost.example.org:1", False),
        ("pool:1", False),
        (":1", False),
    ],
)
def test_what_only_this_machine_can_dial(address: str, local: bool) -> None:
    """Whatever is not surely loopback counts as beyond: it is encrypted or refused."""
    assert is_local(address) is local
    if not local:
        with pytest.raises(ConfigError, match="--insecure"):
            check_page(address, insecure=False)
    check_page(address, insecure=True)


def test_nothing_is_insecure_by_default() -> None:
    """The default address is loopback, and --insecure is off."""
    assert is_local(ServeConfig(Path("b")).listen)
    assert not ServeConfig(Path("b")).insecure
