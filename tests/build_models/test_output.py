"""A bundle's place is refused, filled or replaced whole; a killed build leaves nothing behind for good."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from build_models.errors import OutputError
from build_models.output import check_output, publish, workspace
from worker.bundle import MANIFEST


def _bundle(folder: Path, text: str) -> Path:
    folder.mkdir()
    (folder / MANIFEST).write_text(text)
    (folder / "model.onnx").write_text(text)
    return folder


def test_free_place(tmp_path: Path) -> None:
    """A place that does not exist needs no force."""
    check_output(tmp_path / "new" / "bundle", force=False)


def test_taken_places(tmp_path: Path) -> None:
    """Only a bundle is ever replaced, and only on demand."""
    bundle = _bundle(tmp_path / "bundle", "old")
    with pytest.raises(OutputError, match="give --force"):
        check_output(bundle, force=False)
    check_output(bundle, force=True)
    (tmp_path / "file").write_text("something")
    (tmp_path / "folder").mkdir()
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for name in ("file", "folder", "dangling"):
        with pytest.raises(OutputError, match="is no bundle"):
            check_output(tmp_path / name, force=True)


def _fail_in(out: Path) -> None:
    with workspace(out, 0) as folder:
        (folder / "large").write_bytes(b"x")
        assert folder.parent == out.parent
        raise OutputError("made up")


def test_workspace_leaves_nothing(tmp_path: Path) -> None:
    """Whatever a build leaves in its workspace is gone afterwards, also when it fails."""
    with pytest.raises(OutputError, match="made up"):
        _fail_in(tmp_path / "a" / "out")
    assert list((tmp_path / "a").iterdir()) == []


def test_no_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too little space is said before anything is made, with what is there and what is needed."""
    usage = SimpleNamespace(total=1 << 40, used=0, free=3 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with (
        pytest.raises(OutputError, match="has 3 MiB left, this build needs about 500"),
        workspace(tmp_path / "out", 500 << 20),
    ):
        pytest.fail("the workspace was entered")
    assert list(tmp_path.iterdir()) == []


def test_place_that_cannot_be_written(tmp_path: Path) -> None:
    """A parent that is a file is one clear error."""
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write in"), workspace(tmp_path / "file" / "out", 0):
        pytest.fail("the workspace was entered")


def test_left_overs_of_killed_builds(tmp_path: Path) -> None:
    """The workspace of a build that was killed is removed by the next; that of one that lives is not."""
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    child.wait()
    dead, alive, other = (
        tmp_path / f".out.building-{child.pid}-abc",
        tmp_path / f".out.building-{os.getpid()}-abc",
        tmp_path / f".another.building-{child.pid}-abc",
    )
    for folder in (dead, alive, other):
        folder.mkdir()
        (folder / "lean.onnx").write_bytes(b"x")
    with workspace(tmp_path / "out", 0):
        assert not dead.exists()
        assert alive.exists()
        assert other.exists()


def test_publishing(tmp_path: Path) -> None:
    """A finished folder moves to a free place as it is."""
    publish(_bundle(tmp_path / "made", "new"), tmp_path / "out")
    assert (tmp_path / "out" / "model.onnx").read_text() == "new"
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("can_exchange", [True, False])
def test_replacing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, can_exchange: bool) -> None:
    """A bundle is replaced whole, on file systems that can swap folders and on those that cannot."""
    if not can_exchange:
        monkeypatch.setattr("build_models.output._RENAME_EXCHANGE", 1 << 20)  # a flag no kernel knows
    out = _bundle(tmp_path / "out", "old")
    with workspace(out, 0) as folder:
        publish(_bundle(folder / "made", "new"), out)
        assert {file.read_text() for file in out.iterdir()} == {"new"}
    assert list(tmp_path.iterdir()) == [out]
