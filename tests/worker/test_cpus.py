"""CPUs that may be used: made-up cgroup files of both versions."""

from pathlib import Path, PurePosixPath

import pytest

from worker.cpus import Cpus, parse_cfs, parse_cpu_max, parse_membership, read_cpus, read_quota


@pytest.mark.parametrize(
    ("text", "cpus"),
    [("max 100000\n", None), ("150000 100000\n", 1.5), ("50000 100000", 0.5), ("200000", 2.0)],
)
def test_version_2_quota(text: str, cpus: float | None) -> None:
    """`cpu.max` is quota and period in microseconds, or "max"."""
    assert parse_cpu_max(text) == cpus


@pytest.mark.parametrize(("quota", "cpus"), [("-1\n", None), ("300000\n", 3.0)])
def test_version_1_quota(quota: str, cpus: float | None) -> None:
    """A quota of -1 is none."""
    assert parse_cfs(quota, "100000\n") == cpus


def test_membership_lines() -> None:
    """A line without controllers is version 2; a path may hold colons."""
    assert parse_membership("4:cpu,cpuacct:/a:b\n0::/x\n") == [
        (frozenset({"cpu", "cpuacct"}), PurePosixPath("/a:b")),
        (frozenset(), PurePosixPath("/x")),
    ]


@pytest.mark.parametrize(
    ("quota", "mask", "usable"),
    [(None, 4, 4), (2.9, 4, 2), (0.5, 4, 1), (8.0, 4, 4), (1.0, 1, 1)],
)
def test_usable_is_the_mask_cut_by_the_quota(quota: float | None, mask: int, usable: int) -> None:
    """The quota's floor counts, one CPU at the least, never more than the mask."""
    assert Cpus(tuple(range(mask)), quota).usable == usable


def test_pins_only_where_the_mask_is_filled() -> None:
    """Processes that do not fill the mask float: others may pin to the same first CPUs."""
    assert Cpus((3, 7), None).pins(2) == [3, 7]
    assert Cpus((3, 7), 1.0).pins(1) == [None]


def write(path: Path, text: str) -> None:
    """Writes a made-up cgroup file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize("controller", ["cpu", "cpu,cpuacct"])
def test_reads_version_1(tmp_path: Path, controller: str) -> None:
    """The quota of the process's own group counts."""
    write(tmp_path / "self", f"5:{controller}:/pod/one\n4:memory:/other\n")
    write(tmp_path / "fs" / controller / "pod/one/cpu.cfs_quota_us", "250000\n")
    write(tmp_path / "fs" / controller / "pod/one/cpu.cfs_period_us", "100000\n")
    assert read_quota(tmp_path / "fs", tmp_path / "self") == 2.5


def test_reads_version_2_and_takes_the_smallest_of_the_groups_above(tmp_path: Path) -> None:
    """A group above with less decides."""
    write(tmp_path / "self", "0::/pod/one\n")
    write(tmp_path / "fs/pod/one/cpu.max", "400000 100000\n")
    write(tmp_path / "fs/pod/cpu.max", "300000 100000\n")
    assert read_quota(tmp_path / "fs", tmp_path / "self") == 3.0


def test_container_that_sees_its_group_as_the_root(tmp_path: Path) -> None:
    """Where the host's path is not mounted, the root of what is mounted is the process's group."""
    write(tmp_path / "self", "5:cpu,cpuacct:/docker/abc\n")
    write(tmp_path / "fs/cpu,cpuacct/cpu.cfs_quota_us", "100000\n")
    write(tmp_path / "fs/cpu,cpuacct/cpu.cfs_period_us", "100000\n")
    assert read_quota(tmp_path / "fs", tmp_path / "self") == 1.0


def test_no_cgroups_no_quota(tmp_path: Path) -> None:
    """A kernel without cgroups is no error."""
    assert read_quota(tmp_path, tmp_path / "absent") is None


def test_reads_this_machine() -> None:
    """The real files of this machine give at least one CPU."""
    cpus = read_cpus()
    assert 1 <= cpus.usable <= len(cpus.mask)
