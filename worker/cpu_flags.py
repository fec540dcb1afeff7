"""Which kernels this CPU runs, by the flags it names; and what that means for a bundle.

ONNX Runtime chooses its kernels by these flags when a graph is loaded, so a bundle that was the fastest where
it was measured need not be the fastest here. Vectors do not depend on them, unless a bundle says so.
"""

import platform
import shlex
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from worker.bundle import Bundle, Manifest
from worker.errors import BundleError

_CPUINFO = Path("/proc/cpuinfo")
# Prefixes of the flags that a bundle keeps: all of SIMD, so that later releases may ask for more of them.
_KEPT = ("sse4", "avx", "fma", "f16c", "amx", "asimd", "sve", "i8mm", "bf16")
# Flags by which the kernels of products, in floats and in integers, are chosen: x86, then ARM.
_DECISIVE = frozenset(
    {"sse4_1", "avx", "avx2", "fma", "avx512f", "avx512bw", "avx512dq", "avx512vl"}
    | {"avx_vnni", "avx512_vnni", "amx_tile", "amx_int8"}
    | {"asimd", "asimddp", "i8mm"}
)
_X86 = frozenset({"x86_64", "amd64", "i686", "i386"})
# Any of these multiplies bytes and sums them in 32 bits; the kernels of other x86 CPUs sum pairs in 16 bits,
# which products of unsigned bytes with signed ones of 8 bits overflow. ARM's kernels never did.
_EXACT = frozenset({"avx_vnni", "avx512_vnni", "amx_int8"})
# Key of a recipe's settings in the manifest.
CPU_SETTING = "cpu"


class Cpu(StrEnum):
    """The CPUs that a bundle may be served on."""

    ANY = "any"
    VNNI = "vnni"


@dataclass(frozen=True)
class FlagDifference:
    """How the CPU at hand differs from the one that a bundle was measured on.

    Attributes:
        missing: Decisive flags that only the measuring CPU had, sorted.
        extra: Decisive flags that only the CPU at hand has, sorted.
    """

    missing: tuple[str, ...]
    extra: tuple[str, ...]

    def __bool__(self) -> bool:
        """Whether there is any difference."""
        return bool(self.missing or self.extra)


def cpu_flags(cpuinfo: Path = _CPUINFO) -> tuple[str, ...]:
    """Returns the SIMD flags of this CPU, sorted; none where the system does not tell."""
    try:
        with cpuinfo.open(encoding="utf-8") as stream:
            line = next((line for line in stream if line.startswith(("flags", "Features"))), "")
    except OSError:
        return ()
    return tuple(sorted({flag for flag in line.partition(":")[2].split() if flag.startswith(_KEPT)}))


def compare_flags(measured: Collection[str], here: Collection[str]) -> FlagDifference:
    """Returns the decisive difference of two CPUs; none where one of them is not known."""
    if not measured or not here:
        return FlagDifference((), ())
    then, now = _DECISIVE & set(measured), _DECISIVE & set(here)
    return FlagDifference(tuple(sorted(then - now)), tuple(sorted(now - then)))


def sums_exactly(flags: Collection[str], machine: str) -> bool:
    """Whether products with signed 8-bit weights are exact on a CPU.

    Args:
        flags: Its SIMD flags.
        machine: Its family, as `platform.machine` names it.
    """
    return machine.lower() not in _X86 or not _EXACT.isdisjoint(flags)


def exact_here() -> bool:
    """Whether products with signed 8-bit weights are exact on this CPU."""
    return sums_exactly(cpu_flags(), platform.machine())


def check_cpu(bundle: Bundle) -> None:
    """Refuses a bundle whose vectors this CPU would compute wrong.

    Raises:
        BundleError: The bundle has 8-bit weights for CPUs with VNNI, and this one has none.
    """
    if bundle.manifest.recipe.get(CPU_SETTING) == Cpu.VNNI and not exact_here():
        raise BundleError(
            f"bundle {bundle.path} is built for CPUs with VNNI or AMX (--cpu vnni), and this one has "
            f"none of {', '.join(sorted(_EXACT))}: its 8-bit weights would overflow here and give other "
            f"vectors; serve it elsewhere, or build one for any CPU: {rebuild_command(bundle)}"
        )


def rebuild_command(bundle: Bundle) -> str:
    """Returns the command that measures a bundle's model on this CPU and replaces the bundle."""
    manifest: Manifest = bundle.manifest
    words = ["python", "-m", "build_models", "build", "--model", manifest.name, "--recipes", "auto"]
    return shlex.join([*words, "--out", str(bundle.path), "--force"])
