"""Whatever ends a run, the same command goes on and ends with the same bytes."""

import shutil
import signal
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from build_models.quality.docstrings import Docstring

StartWorker = Callable[..., Any]
STEPS = 56  # a few more than such a run has
MOUNT, UMOUNT = (shutil.which(name) or "false" for name in ("mount", "umount"))


class Road:
    """A small corpus, the pool for it, and the index of a run that nothing disturbed."""

    def __init__(self, folder: Path, address: str, indexer: Any) -> None:
        self.folder, self.indexer = folder, indexer
        self.command = [
            "run",
            "--input",
            str(folder / "corpus.parquet"),
            "--worker",
            address,
            "--unit-rows",
            "40",
        ]
        indexer.run(*self.command, "--output", folder / "undisturbed")
        self.expected = indexer.tree(folder / "undisturbed")

    def finish(self, name: str) -> None:
        """Runs the unmodified command on an index and compares it with the undisturbed one, byte for byte."""
        self.indexer.run(*self.command, "--output", self.folder / name)
        found = self.indexer.tree(self.folder / name)
        assert found.keys() == self.expected.keys()
        assert found == self.expected


@pytest.fixture
def road(
    tiny_bundle: Path,
    some_docstrings: list[Docstring],
    start_worker: StartWorker,
    indexer: Any,
    tmp_path: Path,
) -> Road:
    """70 documents in two units, with a rejected row, so that every kind of file is written."""
    texts = [docstring.text for docstring in some_docstrings[:70]]
    texts[7] = " "
    table = pa.table({"doc_id": [f"d{n}" for n in range(70)], "title": [""] * 70, "text": texts})
    pq.write_table(table, tmp_path / "corpus.parquet", row_group_size=25)
    return Road(tmp_path, start_worker(tiny_bundle).address, indexer)


@pytest.mark.slow
def test_killed_before_any_durable_step_it_goes_on(road: Road, stride: int) -> None:
    """SIGKILL before each fsync, rename and unlink; the same command then makes the same bytes."""

    def survives(step: int) -> bool:
        """Returns whether the run was killed; compares what the next run makes of it."""
        name = f"killed{step}"
        process = road.indexer.start(*road.command, "--output", road.folder / name, fault=f"kill {step}")
        _, err = process.communicate(timeout=120)
        assert process.returncode in (-signal.SIGKILL, 0), err
        road.finish(name)
        shutil.rmtree(road.folder / name)
        return bool(process.returncode)

    with ThreadPoolExecutor(2) as both_cores:
        killed = list(both_cores.map(survives, range(1, STEPS + 1, stride)))
    # Steps of all of a run were tried: the last numbers are beyond its end.
    assert 30 // stride < sum(killed) < len(killed)
    assert killed == sorted(killed, reverse=True)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.8, 0.97])
def test_a_full_disk_is_one_clear_error(road: Road, share: float) -> None:
    """When no space is left, wherever that happens, nothing committed is lost and no half file is left."""
    size = int(share * sum(map(len, road.expected.values())))
    done = road.indexer.run(*road.command, "--output", road.folder / "full", fault=f"full {size}", code=1)
    last = done.stderr.splitlines()[-1]
    assert "No space left on device" in last
    assert str(road.folder / "full") in last
    left = road.indexer.tree(road.folder / "full")
    assert not [name for name in left if name.endswith(".tmp")]
    left.pop("faiss/000001/building.json", None)  # says what was begun; taken away when it is done
    assert {name: road.expected[name] for name in left} == left
    road.finish("full")


def test_a_real_file_system_without_space(road: Road, tmp_path: Path) -> None:
    """On a file system of 24 KiB the run ends in one line; given room it goes on from what was committed."""
    small = tmp_path / "small"
    small.mkdir()
    mount = subprocess.run(
        [MOUNT, "-t", "tmpfs", "-o", "size=24k", "tmpfs", str(small)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mount.returncode:
        pytest.skip(f"this user may not mount a small file system: {mount.stderr.strip()}")
    try:
        done = road.indexer.run(*road.command, "--output", small / "index", code=1)
        assert "No space left on device" in done.stderr.splitlines()[-1]
        subprocess.run([MOUNT, "-o", "remount,size=4m", str(small)], check=True)
        road.indexer.run(*road.command, "--output", small / "index")
        assert road.indexer.tree(small / "index") == road.expected
    finally:
        subprocess.run([UMOUNT, str(small)], check=True)


def test_a_folder_that_may_not_be_written(road: Road) -> None:
    """A place where the kernel lets nobody make files is refused in one line that names it."""
    done = road.indexer.run(*road.command, "--output", "/proc/index", code=1)
    assert done.stderr.splitlines()[-1].startswith("error: cannot make folder /proc/index: ")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_stops_it_in_order(road: Road, number: signal.Signals, code: int) -> None:
    """SIGINT and SIGTERM end the run with one line that says how to go on; then it does."""
    process = road.indexer.start(*road.command, "--output", road.folder / "stopped", fault="tell 0")
    for line in process.stdout:
        if line.startswith("step ") and "000000.receipt.json" in line:
            process.send_signal(number)
            break
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert err.splitlines()[-1] == "error: stopped; nothing committed is lost: run the same command to go on"
    assert not [name for name in road.indexer.tree(road.folder / "stopped") if name.endswith(".tmp")]
    road.finish("stopped")
