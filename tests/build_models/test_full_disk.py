"""A disk that fills up at any stage of a build is one line that says so, and leaves nothing behind."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_DISK_MIB = 24  # holds a whole build of the tiny model several times over
_LIMIT = 100_000  # bytes of one file: less than the weights, more than what is written before them
# Runs builds on a small file system of their own, each with the disk filled up before another call. What
# fails is the real write; only the moment is chosen.
_DRIVER = """
import json, os, resource, sys
from contextlib import contextmanager
from pathlib import Path
import build_models.exported as exported
import build_models.pipeline as pipeline
import build_models.written as written
from build_models.config import BuildConfig
from build_models.errors import BuildError
from build_models.quality.gate import Gate
from build_models.recipes import parse_recipes
from build_models.report import Report

os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # one process to encode with, not one a CPU
disk, model, data = (Path(argument) for argument in sys.argv[1:4])
filler = disk / "filler"

@contextmanager
def full_before(owner, name, call):
    original, calls = getattr(owner, name), []
    def filled(*arguments, **named):
        calls.append(name)
        if len(calls) == call:
            space = os.statvfs(disk)
            with filler.open("wb") as stream:
                os.posix_fallocate(stream.fileno(), 0, space.f_bavail * space.f_bsize)
        return original(*arguments, **named)
    setattr(owner, name, filled)
    yield
    setattr(owner, name, original)

@contextmanager
def small_files(limit):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)

def attempt(trouble, recipe):
    config = BuildConfig(
        model=str(model), out=disk / "made" / "out", recipes=parse_recipes(recipe),
        eval_data=(data,), eval_queries=10, gate=Gate(0, 0, 0, 0),
    )
    with trouble:
        try:
            pipeline.build(config)
            found = "built"
        except BuildError as error:
            found = f"{type(error).__name__}: {error}"
    left = sorted(str(path.relative_to(disk)) for path in disk.rglob("*") if path != filler)
    filler.unlink(missing_ok=True)
    return {"found": found, "left": left}

# The trouble, and the recipe of the build.
stages = {
    "limit": (small_files(int(sys.argv[4])), "fp32"),
    "export": (full_before(exported.TorchModel, "export", 1), "fp32"),
    "optimize": (full_before(exported, "optimize", 1), "fp32"),
    "tokenizer": (full_before(exported, "write_tokenizer", 1), "fp32"),
    "reference": (full_before(exported, "make_candidate", 1), "fp32"),
    "quantize": (full_before(exported, "make_candidate", 2), "int8-dynamic"),
    "report": (full_before(Report, "write", 1), "fp32"),
    "manifest": (full_before(written, "write_manifest", 1), "fp32"),
}
if __name__ == "__main__":
    print(json.dumps({stage: attempt(*how) for stage, how in stages.items()}))
"""


def _on_a_disk_of_its_own(script: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Runs a script in a namespace where its first argument is a small empty file system."""
    disk = script.parent / "disk"
    disk.mkdir()
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("there is no unshare here to mount a small file system with")
    alone = [unshare, "-rm"] if os.getuid() else [unshare, "-m"]
    probe = subprocess.run(
        [*alone, "mount", "-t", "tmpfs", "none", str(disk)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if probe.returncode:
        pytest.skip(f"no file system may be mounted here: {probe.stderr.strip()}")
    mount = f'mount -t tmpfs -o size={_DISK_MIB}m none "$1" && shift && exec "$@"'
    command = [sys.executable, str(script), str(disk), *arguments]
    return subprocess.run(
        [*alone, "sh", "-c", mount, "sh", str(disk), *command],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


@pytest.mark.timeout(300)
def test_full_at_every_stage(tiny_model_dir: Path, eval_data: Path, tmp_path: Path) -> None:
    """Whatever the library at work makes of a full disk, the error names the disk, and nothing is left."""
    script = tmp_path / "stages.py"
    script.write_text(_DRIVER)
    done = _on_a_disk_of_its_own(script, str(tiny_model_dir), str(eval_data), str(_LIMIT))
    assert done.returncode == 0, done.stderr
    stages = json.loads(done.stdout)
    assert len(stages) == 8
    for stage, result in stages.items():
        wanted = f"a file may have at most {_LIMIT} bytes here" if stage == "limit" else "no space left: "
        assert result["found"].startswith(f"OutputError: {wanted}"), (stage, result)
        assert "\n" not in result["found"]
        assert result["left"] == ["made"], stage
