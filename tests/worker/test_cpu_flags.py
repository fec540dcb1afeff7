"""What a CPU's flags mean for a bundle, on CPUs of all kinds: pure logic and made-up `/proc/cpuinfo`."""

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker import cpu_flags as flags
from worker.bundle import Bundle, read_bundle
from worker.cpu_flags import Cpu, check_cpu, compare_flags, rebuild_command, sums_exactly
from worker.errors import BundleError

_ZEN3 = ("avx", "avx2", "f16c", "fma", "sse4_1", "sse4_2")
_ICE_LAKE = (*_ZEN3, "avx512bw", "avx512dq", "avx512f", "avx512vl", "avx512_vnni")
_ALDER_LAKE = (*_ZEN3, "avx_vnni")
_SAPPHIRE_RAPIDS = (*_ICE_LAKE, "amx_int8", "amx_tile", "avx_vnni")
_SKYLAKE_X = tuple(flag for flag in _ICE_LAKE if flag != "avx512_vnni")
_GRAVITON = ("asimd", "asimddp")


def test_reading(tmp_path: Path) -> None:
    """SIMD flags of the first CPU are read on x86 and on ARM; a system that does not tell has none."""
    file = tmp_path / "cpuinfo"
    file.write_text("processor\t: 0\nflags\t\t: fpu avx2 ssse3 avx512_vnni sse4_1\nflags\t\t: fpu\n")
    assert flags.cpu_flags(file) == ("avx2", "avx512_vnni", "sse4_1")
    file.write_text("processor : 0\nFeatures : fp asimd crc32 asimddp\n")
    assert flags.cpu_flags(file) == ("asimd", "asimddp")
    file.write_text("")
    assert flags.cpu_flags(file) == flags.cpu_flags(tmp_path / "nowhere") == ()


@pytest.mark.parametrize(
    ("measured", "here", "missing", "extra"),
    [
        (_ZEN3, _ZEN3, (), ()),
        (_ICE_LAKE, _SKYLAKE_X, ("avx512_vnni",), ()),
        (_ZEN3, _ALDER_LAKE, (), ("avx_vnni",)),
        (_GRAVITON, ("asimd", "i8mm"), ("asimddp",), ("i8mm",)),
        (_ZEN3, (*_ZEN3, "avx512_fp16", "fma4", "sse4a"), (), ()),
        ((), _ICE_LAKE, (), ()),
        (_ICE_LAKE, (), (), ()),
    ],
)
def test_difference(
    measured: tuple[str, ...], here: tuple[str, ...], missing: tuple[str, ...], extra: tuple[str, ...]
) -> None:
    """Only flags that decide kernels count, and what nobody knows differs from nothing."""
    found = compare_flags(measured, here)
    assert (found.missing, found.extra) == (missing, extra)
    assert bool(found) == bool(missing or extra)


@given(st.sets(st.sampled_from(_SAPPHIRE_RAPIDS), min_size=1), st.sets(st.sampled_from(_GRAVITON + _ZEN3)))
def test_difference_is_mirrored(left: set[str], right: set[str]) -> None:
    """Seen from the other side, what is missing is extra."""
    there, back = compare_flags(left, right), compare_flags(right, left)
    assert (there.missing, there.extra) == (back.extra, back.missing)
    assert not compare_flags(left, left)


@pytest.mark.parametrize(
    ("here", "machine", "exact"),
    [
        (_ZEN3, "x86_64", False),
        (_SKYLAKE_X, "x86_64", False),
        (_ICE_LAKE, "x86_64", True),
        (_ALDER_LAKE, "AMD64", True),
        ((*_SKYLAKE_X, "amx_int8"), "x86_64", True),
        ((), "x86_64", False),
        (_GRAVITON, "aarch64", True),
        (("asimd",), "arm64", True),
    ],
)
def test_where_eight_bits_are_exact(here: tuple[str, ...], machine: str, exact: bool) -> None:
    """x86 needs VNNI in one of its forms, or AMX; ARM's kernels never sum in 16 bits."""
    assert sums_exactly(here, machine) is exact


def test_bundle_for_vnni(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bundle for VNNI is refused where its sums overflow, with what to run, and served elsewhere."""
    bundle = read_bundle(tiny_bundle)
    recipe = dict(bundle.manifest.recipe) | {"cpu": Cpu.VNNI.value}
    vnni = Bundle(tiny_bundle, dataclasses.replace(bundle.manifest, recipe=recipe))
    monkeypatch.setattr(flags, "exact_here", lambda: False)
    check_cpu(bundle)
    with pytest.raises(BundleError, match=r"CPUs with VNNI or AMX.*other vectors.* --recipes auto --out"):
        check_cpu(vnni)
    monkeypatch.setattr(flags, "exact_here", lambda: True)
    check_cpu(vnni)


def test_command_can_be_pasted(tiny_bundle: Path) -> None:
    """The command that a warning gives is one that a shell reads as it was meant."""
    bundle = read_bundle(tiny_bundle)
    named = Bundle(Path("/a folder/b"), dataclasses.replace(bundle.manifest, name="it's"))
    assert rebuild_command(named) == (
        """python -m build_models build --model 'it'"'"'s' --recipes auto --out '/a folder/b' --force"""
    )
