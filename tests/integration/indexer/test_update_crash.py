"""SIGKILL before durable steps of a delete, an update, a compact and a repair: nothing shows of it.

All of them with `make faults`, else some.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from build_models.quality.docstrings import Docstring
from tests.integration.indexer.conftest import Indexer
from tests.integration.indexer.updates import Archive, copied, failures

SHARES = 2  # processes that try steps side by side
SECONDS = 300.0


@pytest.fixture(scope="module")
def archive(
    tiny_bundle: Path,
    some_docstrings: list[Docstring],
    start_shared_worker: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Archive:
    """Small files in two units of one index, `made`; `updated` is it with a changed file and a deletion."""
    address = start_shared_worker(tiny_bundle, "--processes", "1").address
    folder = tmp_path_factory.mktemp("crash")
    archive = Archive(
        folder,
        address,
        Indexer(),
        [docstring.text for docstring in some_docstrings[:40]],
        "--index-key",
        "Flat",
    )
    archive.write("a", archive.rows(0, 12))
    archive.write("b", archive.rows(12, 18))
    archive.run(folder / "made")
    archive.write("b", archive.rows(13, 20))
    updated = copied(folder / "made", "updated")
    archive.run(updated)
    archive.indexer.run("delete", "--index", updated, "--ids", "d1,d15")
    return archive


def _crash(stride: int, index: Path, *command: str) -> int:
    """Kills a command on copies of an index before steps; each ends with the bytes of an undisturbed one.

    Returns the number of the last step that was tried.
    """
    folder = index.with_name(f"{index.name}-{command[0]}")
    folder.mkdir()
    expected = Path(shutil.copytree(index, folder / "undisturbed"))
    Indexer().run(*(str(expected) if word == "{}" else word for word in command))
    tree = Indexer.tree(expected)

    def share(first: int) -> list[list[int]]:
        script = Path(__file__).with_name("crash_steps.py")
        done = subprocess.run(
            [sys.executable, str(script), str(index), str(folder), str(first), str(SHARES * stride), "--",
             *command],
            capture_output=True, text=True, timeout=SECONDS, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found: list[list[int]] = json.loads(done.stdout)
        return found

    with ThreadPoolExecutor(SHARES) as both_cores:
        tried = sorted(chain.from_iterable(both_cores.map(share, range(1, SHARES * stride + 1, stride))))
    for number, killed, second in tried:
        said = (folder / f"{number}.log").read_text()
        assert killed in (-9, 0), said
        assert second == 0, said
        assert Indexer.tree(folder / str(number)) == tree, number
    assert not failures(expected)
    numbers = [number for number, killed, _ in tried if killed]
    assert numbers == list(range(1, numbers[-1] + 1, stride))
    shutil.rmtree(folder)
    return numbers[-1]


@pytest.mark.slow
def test_delete(archive: Archive, stride: int) -> None:
    """The deletion, the generation without the rows, CURRENT."""
    assert _crash(stride, archive.folder / "made", "delete", "--index", "{}", "--ids", "d2,d16,nobody") > 8


@pytest.mark.slow
def test_update(archive: Archive, stride: int) -> None:
    """The addition, its units, the generation that has them, CURRENT."""
    command = [str(word) for word in archive.command(Path("{}"))]
    assert _crash(stride, archive.folder / "made", *command) > 12


@pytest.mark.slow
def test_compact(archive: Archive, stride: int) -> None:
    """New revisions, receipts, the generation built anew, CURRENT, and what nothing names."""
    assert _crash(stride, archive.folder / "updated", "compact", "--index", "{}") > 25


@pytest.mark.slow
def test_repair(archive: Archive, stride: int) -> None:
    """A damaged FAISS index is made again, a damaged unit of a file that changed since is emptied."""
    damaged = copied(archive.folder / "updated", "damaged")
    for file in (*(damaged / "faiss").glob("*/*.faiss"), damaged / "units" / "000001.parquet"):
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
    (damaged / "units" / "000009.parquet").write_bytes(b"nobody's")
    assert _crash(stride, damaged, "repair", "--index", "{}") > 16
