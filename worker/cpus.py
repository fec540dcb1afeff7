"""How many CPUs may this process use, and which.

The host's count is wrong under a cpuset or a quota: the answer is the affinity mask cut by the cgroup's
quota.
"""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

_CGROUP_ROOT = Path("/sys/fs/cgroup")
_SELF_CGROUP = Path("/proc/self/cgroup")


@dataclass(frozen=True)
class Cpus:
    """CPUs that this process may use.

    Attributes:
        mask: Numbers of the CPUs in the affinity mask, ascending.
        quota: CPU seconds per second that the cgroup grants; None for no quota.
    """

    mask: tuple[int, ...]
    quota: float | None

    @property
    def usable(self) -> int:
        """Count of compute threads that fit: the mask's size, cut by the quota's floor; at least 1."""
        if self.quota is None:
            return len(self.mask)
        return max(1, min(len(self.mask), math.floor(self.quota)))

    def pins(self, processes: int) -> list[int | None]:
        """Returns the CPU that each of `processes` pins itself to, or None to float over the mask.

        Processes are pinned only when they fill the mask. With fewer, the rest of the mask belongs to others
        (a neighbour under its own quota, a second pool): all pinned to the first CPUs, they would meet there.
        """
        if processes != len(self.mask):
            return [None] * processes
        return list(self.mask)


def read_cpus(cgroup_root: Path = _CGROUP_ROOT, self_cgroup: Path = _SELF_CGROUP) -> Cpus:
    """Reads the affinity mask and the cgroup quota (version 1 or 2) of this process."""
    return Cpus(tuple(sorted(os.sched_getaffinity(0))), read_quota(cgroup_root, self_cgroup))


def read_quota(cgroup_root: Path, self_cgroup: Path) -> float | None:
    """Returns the smallest quota, in CPUs, of this process's cgroup and those above it; None for no quota."""
    try:
        membership = self_cgroup.read_text(encoding="utf-8")
    except OSError:
        return None  # a kernel without cgroups has no quotas
    quotas = [
        quota for folder in _folders(cgroup_root, membership) if (quota := _folder_quota(folder)) is not None
    ]
    return min(quotas, default=None)


def parse_cpu_max(text: str) -> float | None:
    """Returns the CPUs that a version 2 `cpu.max` grants: `"150000 100000"` → 1.5, `"max 100000"` → None."""
    quota, _, period = text.strip().partition(" ")
    return None if quota == "max" else int(quota) / int(period or 100_000)


def parse_cfs(quota: str, period: str) -> float | None:
    """Returns the CPUs that version 1 `cpu.cfs_quota_us` and `cpu.cfs_period_us` grant; -1 → None."""
    return None if int(quota) <= 0 else int(quota) / int(period)


def parse_membership(text: str) -> list[tuple[frozenset[str], PurePosixPath]]:
    """Returns (controllers, path) of each line of `/proc/self/cgroup`; no controllers mean version 2."""
    entries = []
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        entries.append((frozenset(filter(None, controllers.split(","))), PurePosixPath(path)))
    return entries


def _folders(root: Path, membership: str) -> Iterator[Path]:
    for controllers, path in parse_membership(membership):
        if controllers and "cpu" not in controllers:
            continue
        names = ("cpu", "cpu,cpuacct", "cpuacct,cpu") if controllers else ("", "unified")
        for name in names:
            # Inside a container the path may be the host's, while what is mounted starts at its own root.
            for step in (path, *path.parents):
                yield root / name / str(step).lstrip("/")


def _folder_quota(folder: Path) -> float | None:
    unified = folder / "cpu.max"
    if unified.is_file():
        return parse_cpu_max(unified.read_text(encoding="utf-8"))
    quota, period = folder / "cpu.cfs_quota_us", folder / "cpu.cfs_period_us"
    if quota.is_file() and period.is_file():
        return parse_cfs(quota.read_text(encoding="utf-8"), period.read_text(encoding="utf-8"))
    return None
