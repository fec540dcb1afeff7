"""What a process may use of its machine: folders like the kernel's, and this machine's own."""

import os
from pathlib import Path

import pytest

from indexer.index.machine import usable_cpus, usable_memory

_MACHINE = "MemTotal:       16000 kB\nMemFree: 1 kB\n"


def _write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


@pytest.mark.parametrize(
    ("membership", "files", "cpus", "memory"),
    [
        ("0::/\n", {}, 8, 16_384_000),
        ("0::/\n", {"cpu.max": "max 100000", "memory.max": "max"}, 8, 16_384_000),
        ("0::/a/b\n", {"a/b/cpu.max": "350000 100000", "a/b/memory.max": "9000000"}, 3, 9_000_000),
        ("0::/a/b\n", {"a/cpu.max": "200000 100000", "a/b/cpu.max": "400000 100000"}, 2, 16_384_000),
        ("0::/host/path\n", {"cpu.max": "50000 100000", "memory.max": "5000"}, 1, 5000),
        ("0::/a\n", {"memory.max": "70", "a/memory.max": "80"}, 8, 70),
        (
            "4:cpu,cpuacct:/x\n3:memory:/x\n1:name=systemd:/y\n",
            {
                "cpu,cpuacct/x/cpu.cfs_quota_us": "250000",
                "cpu,cpuacct/x/cpu.cfs_period_us": "100000",
                "memory/x/memory.limit_in_bytes": "1000000",
                "memory/memory.limit_in_bytes": "9223372036854771712",
                "cpu.max": "100000 100000",
            },
            2,
            1_000_000,
        ),
        ("4:cpu:/x\n", {"cpu/x/cpu.cfs_quota_us": "-1", "cpu/x/cpu.cfs_period_us": "100000"}, 8, 16_384_000),
    ],
)
def test_the_least_limit_of_the_own_group_and_those_above_holds(
    membership: str,
    files: dict[str, str],
    cpus: int,
    memory: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Version 1 and 2, a container, no limits, no groups: else the affinity mask and the machine hold."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    own, machine, root = tmp_path / "own", tmp_path / "meminfo", tmp_path / "root"
    own.write_text(membership)
    machine.write_text(_MACHINE)
    _write(root, files)
    assert usable_cpus(root, own) == cpus
    assert usable_memory(root, own, machine) == memory
    assert usable_cpus(root, tmp_path / "none") == 8


def test_this_machine_has_something_to_give() -> None:
    """The kernel's own files are read."""
    assert 1 <= usable_cpus() <= len(os.sched_getaffinity(0))
    assert usable_memory() > 100_000_000
