"""What keeps a server from starting is one clear line and exit code 1 or 2."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from worker.bundle import MANIFEST, MODEL, TOKENIZER, file_sha256


def serve(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Runs `worker serve` until it ends by itself."""
    return subprocess.run(
        [sys.executable, "-m", "worker", "serve", "--log-level", "error", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )


def copy_of(bundle: Path, tmp_path: Path) -> Path:
    """Returns a copy that a test may damage."""
    return shutil.copytree(bundle, tmp_path / "copy")


def accept_files(folder: Path) -> None:
    """Writes the checksums of the files as they are into the manifest."""
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"] = {name: file_sha256(folder / name) for name in manifest["files"]}
    (folder / MANIFEST).write_text(json.dumps(manifest))


def assert_refused(done: "subprocess.CompletedProcess[str]", *words: str, code: int = 1) -> None:
    """The exit code, nothing on stdout, one line of error that holds the words."""
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    for word in words:
        assert word in done.stderr


@pytest.mark.parametrize("name", [MODEL, TOKENIZER])
def test_checksum_that_differs(tiny_bundle: Path, tmp_path: Path, name: str) -> None:
    """A file that is not the one the manifest knows is never served."""
    copy = copy_of(tiny_bundle, tmp_path)
    with (copy / name).open("ab") as file:
        file.write(b" ")
    assert_refused(serve("--bundle", str(copy), "--listen", "127.0.0.1:0"), name, "sha256", "build or copy")


def test_missing_bundle(tmp_path: Path) -> None:
    """A folder without a manifest is no bundle."""
    assert_refused(serve("--bundle", str(tmp_path), "--listen", "127.0.0.1:0"), "is no bundle", str(tmp_path))


@pytest.mark.parametrize(
    ("content", "words"),
    [("{", "not JSON"), ("[]", "schema version"), ('{"schema_version": 1}', "wrong fields")],
)
def test_damaged_manifest(tiny_bundle: Path, tmp_path: Path, content: str, words: str) -> None:
    """A manifest that cannot be understood is named, with what is wrong in it."""
    copy = copy_of(tiny_bundle, tmp_path)
    (copy / MANIFEST).write_text(content)
    assert_refused(serve("--bundle", str(copy), "--listen", "127.0.0.1:0"), words)


@pytest.mark.parametrize("name", [MODEL, TOKENIZER])
def test_file_that_cannot_be_loaded(tiny_bundle: Path, tmp_path: Path, name: str) -> None:
    """A bundle whose checksums agree but whose file is nonsense fails with the name of the file."""
    copy = copy_of(tiny_bundle, tmp_path)
    (copy / name).write_bytes(b"nonsense")
    accept_files(copy)
    assert_refused(serve("--bundle", str(copy), "--listen", "127.0.0.1:0"), name)


def test_taken_port(tiny_bundle: Path) -> None:
    """A port that another program listens on is an error, not a shared port."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert_refused(serve("--bundle", str(tiny_bundle), "--listen", address), address, "in use")


def test_port_of_another_worker(start_worker: Callable[..., Any], tiny_bundle: Path) -> None:
    """Two workers never share a port, although gRPC would let them."""
    address = start_worker(tiny_bundle).address
    assert_refused(serve("--bundle", str(tiny_bundle), "--listen", address), address)


def test_taken_unix_socket(start_worker: Callable[..., Any], tiny_bundle: Path, tmp_path: Path) -> None:
    """The socket of a living server is not taken over; the one that a dead server left behind is."""
    listen = f"unix:{tmp_path}/s"
    first = start_worker(tiny_bundle, listen=listen)
    assert_refused(serve("--bundle", str(tiny_bundle), "--listen", listen), listen, "a server listens there")
    os.kill(first.process.pid, signal.SIGKILL)
    first.process.wait(30)
    assert start_worker(tiny_bundle, listen=listen).address == listen


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--processes", "999"], "use auto or 1 to"),
        (["--processes", "many"], "--processes is 'many', it must be auto or an integer"),
        (["--max-batch-items", "0"], "max_batch_items is 0"),
        (["--max-text-bytes", "9999999"], "the first must fit into the second"),
        (["--drain-seconds", "-1"], "drain_seconds is -1"),
        (["--no-such"], "No such option"),
    ],
)
def test_wrong_usage(tiny_bundle: Path, arguments: list[str], words: str) -> None:
    """A setting that cannot be is exit code 2 and says what could be."""
    assert_refused(serve("--bundle", str(tiny_bundle), *arguments), words, code=2)


@pytest.mark.parametrize(
    ("listen", "words"),
    [
        ("50051", "neither HOST:PORT nor unix:PATH"),
        ("203.0.113.7:0", "Cannot assign"),
        ("127.0.0.1:http", "neither HOST:PORT"),
    ],
)
def test_address_that_cannot_be(tiny_bundle: Path, listen: str, words: str) -> None:
    """A malformed or foreign address is named with the reason."""
    assert_refused(serve("--bundle", str(tiny_bundle), "--listen", listen), listen, words)


def test_warns_when_others_can_read_along(start_worker: Callable[..., Any], tiny_bundle: Path) -> None:
    """Listening beyond loopback without encryption must be asked for, and is logged as a warning then."""
    assert_refused(
        serve("--bundle", str(tiny_bundle), "--listen", "0.0.0.0:0"), "--tls-cert", "--insecure", code=2
    )
    assert "unencrypted" in start_worker(tiny_bundle, "--insecure", listen="0.0.0.0:0").log.read_text()
    assert "unencrypted" not in start_worker(tiny_bundle, "--insecure").log.read_text()


def test_help_shows_defaults_and_units() -> None:
    """Each option says its unit and its default."""
    shown = subprocess.run(
        [sys.executable, "-m", "worker", "serve", "--help"], capture_output=True, text=True, timeout=60
    ).stdout
    shown = " ".join(shown.split())  # lines break where they must
    for words in ("default: 30.0", "Seconds", "Bytes of one text", "127.0.0.1:50051", "default: 1048576"):
        assert words in shown
