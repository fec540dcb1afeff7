"""What the kernel tells of a process: its memory and the time that it computed."""

from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_KIB = 1024


@dataclass(frozen=True)
class Memory:
    """Memory of a process, in bytes.

    Attributes:
        resident: All its pages that are in memory.
        proportional: The same, with each shared page divided among those that share it: what adds up.
        private: Its pages that it shares with nobody: what its end would free.
    """

    resident: int
    proportional: int
    private: int


def read_memory(pid: int) -> Memory:
    """Returns the memory of a process; takes some milliseconds, for the kernel walks its pages.

    Raises:
        OSError: There is no such process, or it is another user's.
    """
    lines = (_PROC / str(pid) / "smaps_rollup").read_text(encoding="ascii").splitlines()
    values = {line.split(":")[0]: int(line.split()[1]) * _KIB for line in lines[1:]}
    private = values["Private_Clean"] + values["Private_Dirty"]
    return Memory(values["Rss"], values["Pss"], private)


def cpu_ticks(pid: int) -> int:
    """Returns the clock ticks (`os.sysconf("SC_CLK_TCK")` a second) that a process has computed.

    Raises:
        OSError: There is no such process.
    """
    fields = (
        (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    )
    return int(fields[11]) + int(fields[12])  # utime and stime: the name in front may hold blanks
