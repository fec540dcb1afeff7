"""What this process may use of its machine: CPUs and memory, as its affinity mask and control groups say.

The host's counts are wrong in a container: the smallest limit of the process's own control group and of those
above it holds, in version 1 and 2 of control groups.
"""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_ROOT = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")
_MEMORY = Path("/proc/meminfo")
_CPUS = Path("/proc/cpuinfo")
_NO_MEMORY = 1 << 60  # bytes; version 1 writes a number above this where there is no limit


def usable_cpus(root: Path = _ROOT, membership: Path = _MEMBERSHIP) -> int:
    """Returns how many threads can compute at once: the affinity mask, cut by the quota; at least 1."""
    allowed = len(os.sched_getaffinity(0))
    quotas = [quota for folder in _folders(root, membership, "cpu") for quota in _quotas(folder)]
    return max(1, min([allowed, *map(int, quotas)]))


def usable_memory(root: Path = _ROOT, membership: Path = _MEMBERSHIP, machine: Path = _MEMORY) -> int:
    """Returns the bytes of memory that the machine has or the control groups grant, whichever is less."""
    (total,) = [line for line in machine.read_text(encoding="utf-8").splitlines() if "MemTotal:" in line]
    limits = [
        int(text)
        for folder in _folders(root, membership, "memory")
        for name in ("memory.max", "memory.limit_in_bytes")
        if (text := _text(folder / name)).isdigit() and int(text) < _NO_MEMORY
    ]
    return min([1024 * int(total.split()[1]), *limits])


def cpu_name(cpus: Path = _CPUS) -> str:
    """Returns what the kernel calls the CPU, "unknown CPU" where it does not say."""
    names = [line.partition(":")[2] for line in _text(cpus).splitlines() if line.startswith("model name")]
    return " ".join(names[0].split()) if names else "unknown CPU"


def _quotas(folder: Path) -> Iterator[float]:
    """Yields the CPUs that a control group grants, nothing where it sets no limit."""
    quota, _, period = _text(folder / "cpu.max").partition(" ")
    if quota.isdigit():
        yield int(quota) / int(period or 100_000)  # µs; the kernel's default period
    quota, period = (_text(folder / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
    if quota.isdigit() and period.isdigit():
        yield int(quota) / int(period)


def _folders(root: Path, membership: Path, controller: str) -> Iterator[Path]:
    """Yields the folders of this process's control groups and of all above them."""
    for line in _text(membership).splitlines():
        _, controllers, path = line.split(":", 2)
        names = controllers.split(",") if controllers else []
        if names and controller not in names:
            continue
        # Inside a container the path may be the host's, while what is mounted starts at its own root.
        steps = (PurePosixPath(path), *PurePosixPath(path).parents)
        for mounted in (controller, controllers) if names else ("", "unified"):
            yield from (root / mounted / str(step).lstrip("/") for step in steps)


def _text(path: Path) -> str:
    """Returns what a file of the kernel says, "" where there is none."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
