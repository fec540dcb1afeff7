"""Files that are whole or absent, and the lock."""

import errno
import os
from pathlib import Path

import pytest

from indexer.errors import StorageError, StoreError
from indexer.store.durable import durable_stream, make_folder, remove, write_durable


def test_a_file_appears_whole(tmp_path: Path) -> None:
    """What was written is there under its name, and nothing else is."""
    write_durable(tmp_path / "a", b"one")
    write_durable(tmp_path / "a", memoryview(b"two"))
    assert (tmp_path / "a").read_bytes() == b"two"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_refused_write_leaves_what_was_there(
    failing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No space at any step is one clear error; the old file stands and no temp file is left."""
    write_durable(tmp_path / "a", b"old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, failing, full)
    with pytest.raises(
        StorageError, match=rf"cannot write {tmp_path / 'a'}: No space left on device; .*same command"
    ):
        write_durable(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_real_full_device_is_told(tmp_path: Path) -> None:
    """A write that the kernel refuses is the same clear error."""
    (tmp_path / "a.tmp").symlink_to("/dev/full")
    with pytest.raises(StorageError, match="No space left on device"):
        write_durable(tmp_path / "a", b"x" * 100_000)
    assert list(tmp_path.iterdir()) == []


def test_a_block_that_fails_writes_nothing(tmp_path: Path) -> None:
    """An error of the caller's passes as it is, and the file does not appear; nor after a failed check."""
    with pytest.raises(ValueError, match="mine"), durable_stream(tmp_path / "a"):
        raise ValueError("mine")

    def refuse(temporary: Path) -> None:
        assert temporary.read_bytes() == b"text"
        raise StoreError("not good")

    with pytest.raises(StoreError, match="not good"), durable_stream(tmp_path / "a", refuse) as stream:
        stream.write(b"text")
    assert list(tmp_path.iterdir()) == []


def test_folders_and_removal(tmp_path: Path) -> None:
    """Missing parents are made; removing what is not there is fine; a file in the way is named."""
    make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    remove(tmp_path / "none")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="cannot make folder"):
        make_folder(tmp_path / "file" / "b")
