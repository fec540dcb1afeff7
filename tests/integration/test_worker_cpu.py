"""A bundle that was measured on another CPU is served with a warning; one that this CPU spoils is not."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from worker.bundle import read_bundle, write_manifest
from worker.cpu_flags import Cpu, cpu_flags, exact_here

Start = Callable[..., Any]


def _copy(bundle: Path, tmp_path: Path, **changed: Any) -> Path:
    """Returns a copy with another manifest: neither flags nor summaries are part of the fingerprint."""
    copy = shutil.copytree(bundle, tmp_path / "copy")
    write_manifest(copy, dataclasses.replace(read_bundle(bundle).manifest, **changed))
    return copy


def _warnings(log: Path) -> list[str]:
    return [line for line in log.read_text().splitlines() if "measured_on_another_cpu" in line]


@pytest.mark.skipif(not cpu_flags(), reason="this system does not tell its CPU's flags")
def test_warns_of_another_cpu(start_worker: Start, tiny_bundle: Path, tmp_path: Path) -> None:
    """One line says which flags differ, what that means, and the command that measures here; it serves."""
    decisive = {"avx2", "asimd"} & set(cpu_flags())
    if not decisive:
        pytest.skip("this CPU has neither AVX2 nor Advanced SIMD: no flag of it decides a kernel")
    measured = (*(set(cpu_flags()) - decisive), "avx512_vnni", "amx_int8", "avx512_made_up")
    server = start_worker(_copy(tiny_bundle, tmp_path, cpu_flags=measured))
    (line,) = _warnings(server.log)
    assert " level=WARNING " in line
    extra = ",".join(sorted(decisive))
    missing = ",".join(flag for flag in ("amx_int8", "avx512_vnni") if flag not in cpu_flags())
    assert f"missing={missing or 'none'} extra={extra} " in line
    assert "vectors do not" in line
    model = read_bundle(tiny_bundle).manifest.name
    command = f"build_models build --model {model} --recipes auto --out {tmp_path / 'copy'} --force"
    assert f"python -m {command}" in line


@pytest.mark.parametrize("flags", [(), cpu_flags(), (*cpu_flags(), "avx512_made_up")])
def test_silent_on_the_same_cpu(
    start_worker: Start, tiny_bundle: Path, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    """Equal flags, flags that decide nothing, and a bundle that knows none are no reason to warn."""
    assert _warnings(start_worker(_copy(tiny_bundle, tmp_path, cpu_flags=flags)).log) == []


def test_bundle_for_vnni(start_worker: Start, tiny_bundle: Path, tmp_path: Path) -> None:
    """A bundle with 8-bit weights is served where they are exact, and refused in one line where not."""
    recipe = dict(read_bundle(tiny_bundle).manifest.recipe) | {"cpu": Cpu.VNNI.value}
    server = start_worker(_copy(tiny_bundle, tmp_path, recipe=recipe), ready=exact_here())
    if exact_here():
        assert server.address
        return
    assert server.process.wait(60) == 1
    (error,) = [line for line in server.log.read_text().splitlines() if not line.startswith("time=")]
    assert error.startswith(f"error: bundle {tmp_path / 'copy'} is built for CPUs with VNNI or AMX")
    assert "build_models build --model" in error
