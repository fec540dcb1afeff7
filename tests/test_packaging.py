"""What users install: the wheel, and the steps of the Dockerfile run as they stand in it.

No container engine is needed: the steps run in a virtual environment, from a copy of what the
Dockerfile copies, so a file or a dependency that it forgets fails here.
"""

import json
import os
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
IMAGE_VENV = "/opt/embedpool"
MAX_WORKER_MEGABYTES = 250  # installed size of the worker's environment, its interpreter aside
INSTALL_SECONDS = 280

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@dataclass(frozen=True)
class Stage:
    """One stage of the Dockerfile: the stage or image it starts from, and its instructions in order."""

    base: str
    instructions: list[tuple[str, str]]

    def all(self, name: str) -> list[str]:
        """Returns the arguments of every instruction of this name."""
        return [arguments for instruction, arguments in self.instructions if instruction == name]


@pytest.fixture(scope="session")
def stages() -> dict[str, Stage]:
    """The Dockerfile by stage name."""
    lines = [
        line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.lstrip().startswith("#")
    ]
    found: dict[str, Stage] = {}
    instructions: list[tuple[str, str]] = []
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        name, _, arguments = line.strip().partition(" ")
        if name == "FROM":
            base, _, stage = arguments.partition(" AS ")
            instructions = []
            found[stage] = Stage(base, instructions)
        elif name:
            instructions.append((name, arguments))
    return found


@pytest.fixture(scope="session")
def context(stages: dict[str, Stage], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with exactly what the source stage copies out of the repository."""
    folder = tmp_path_factory.mktemp("context")
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for arguments in stages["source"].all("COPY"):
        *sources, target = arguments.split()
        for source in sources:
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, folder / target, ignore=ignore)
            else:
                shutil.copy(ROOT / source, folder / target)
    return folder


def _run_steps(stage: Stage, context: Path, venv: Path) -> None:
    assert stage.all("RUN"), "the stage installs nothing"
    for step in stage.all("RUN"):
        command = step.replace(IMAGE_VENV, str(venv))
        command = re.sub(r"^python ", f"{shlex.quote(sys.executable)} ", command)
        result = subprocess.run(
            ["/bin/sh", "-ec", command],
            cwd=context,
            capture_output=True,
            text=True,
            timeout=INSTALL_SECONDS,
            check=False,
        )
        assert result.returncode == 0, f"{command}\n{result.stdout[-2000:]}\n{result.stderr[-2000:]}"


@pytest.fixture(scope="session")
def worker_venv(stages: dict[str, Stage], context: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The environment that the worker image holds."""
    venv = tmp_path_factory.mktemp("image") / "embedpool"
    _run_steps(stages["worker-install"], context, venv)
    return venv


def _in_image(command: str, venv: Path, replaced: dict[str, str]) -> list[str]:
    """Returns an exec-form instruction as an argv outside the image."""
    words: list[str] = json.loads(command)
    assert words[0] == "python"
    return [str(venv / "bin" / "python"), *(replaced.get(word, word) for word in words[1:])]


@pytest.fixture(scope="session")
def wheel(context: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of what the Dockerfile copies."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(folder), str(context)],
        check=True,
        timeout=INSTALL_SECONDS,
    )
    (found,) = folder.glob("*.whl")
    return found


def _contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_source_distribution_is_the_repository(wheel: Path, tmp_path: Path) -> None:
    """What git holds of the project is in it, tests and documentation too, and it builds the same wheel."""
    tree, made = tmp_path / "tree", tmp_path / "made"
    left_out = (
        ".git",
        ".venv",
        ".demo",
        ".bench",
        ".*_cache",
        "build",
        "dist",
        "*.egg-info",
        "__pycache__",
        "_build",
    )
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(*left_out))
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "-o", str(made), str(tree)],
        check=True,
        capture_output=True,
        timeout=INSTALL_SECONDS,
    )
    (source,) = made.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    git = shutil.which("git") or "false"
    listed = subprocess.run([git, "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode == 0:
        assert set(listed.stdout.split()) <= names
    assert {
        "Makefile",
        "constraints.txt",
        "proto/embedpool/v1/embedding_service.proto",
        "tests/conftest.py",
    } <= names
    (rebuilt,) = made.glob("*.whl")
    assert _contents(rebuilt) == _contents(wheel)


def test_the_wheel_holds_the_packages_and_nothing_else(wheel: Path) -> None:
    """A wheel carries the four packages, their type information and the licence; no tests, no examples."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {
        "worker",
        "indexer",
        "build_models",
        "embedpool",
    }
    assert "embedpool/py.typed" in names
    assert "embedpool/v1/embedding_service_pb2.pyi" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    sources = {
        path.relative_to(ROOT).as_posix()
        for package in ("worker", "indexer", "build_models")
        for path in (ROOT / package).rglob("*.py")
    }
    assert sources <= set(names)


def test_the_worker_image_serves_a_bundle(
    stages: dict[str, Stage], worker_venv: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    """The image's command serves what its variables say, its health check passes, and SIGTERM ends it."""
    stage = stages["worker"]
    (entry,) = stage.all("ENTRYPOINT")
    variables = dict(pair.split("=", 1) for line in stage.all("ENV") for pair in line.split())
    assert (variables["EMBEDPOOL_BUNDLE"], variables["EMBEDPOOL_LISTEN"]) == ("/bundle", "0.0.0.0:50051")
    variables["EMBEDPOOL_BUNDLE"] = str(tiny_bundle)
    variables["EMBEDPOOL_LISTEN"] = variables["EMBEDPOOL_HTTP_LISTEN"] = "127.0.0.1:0"
    log = (tmp_path / "log").open("w+")
    server = subprocess.Popen(
        _in_image(entry, worker_venv, {}),
        cwd=tmp_path,  # outside the checkout, so that only what is installed can be imported
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        env={**os.environ, **variables, "PYTHONUNBUFFERED": "1"},
    )
    try:
        assert server.stdout is not None
        readable, _, _ = select.select([server.stdout], [], [], 60)
        word, _, address = (server.stdout.readline() if readable else "").strip().partition(" ")
        assert word == "ready", (tmp_path / "log").read_text()
        (health,) = stage.all("HEALTHCHECK")
        probe = _in_image(health[health.index("[") :], worker_venv, {"127.0.0.1:50051": address})
        checked = subprocess.run(probe, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
        assert checked.returncode == 0, checked.stderr
        assert f"versions.embedpool: {VERSION}" in checked.stdout
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0
        dead = subprocess.run(probe, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
        assert dead.returncode == 1
    finally:
        if server.poll() is None:
            server.kill()
            server.wait(30)
        if server.stdout is not None:
            server.stdout.close()
        log.close()


def test_the_worker_image_is_small(worker_venv: Path) -> None:
    """The worker's environment holds no torch, faiss, Parquet or toolchain, and stays below its limit."""
    (packages,) = worker_venv.glob("lib/python*/site-packages")
    installed = {path.name for path in packages.iterdir()}
    assert {"worker", "onnxruntime", "tokenizers", "grpc"} <= installed
    assert not installed & {"torch", "transformers", "faiss", "pyarrow", "onnx", "rich", "pytest"}
    size = sum(path.lstat().st_size for path in worker_venv.rglob("*") if not path.is_dir())
    assert size / 1e6 <= MAX_WORKER_MEGABYTES, f"{size / 1e6:.0f} MB"


def test_the_indexer_image_installs(
    stages: dict[str, Stage], context: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The other target's steps give an indexer that shows its commands, without torch or onnxruntime."""
    venv = tmp_path_factory.mktemp("indexer-image") / "embedpool"
    _run_steps(stages["indexer-install"], context, venv)
    (entry,) = stages["indexer"].all("ENTRYPOINT")
    (default,) = stages["indexer"].all("CMD")
    command = json.dumps([*json.loads(entry), *json.loads(default)])
    shown = subprocess.run(
        _in_image(command, venv, {}), cwd=venv, capture_output=True, text=True, timeout=60, check=True
    )
    assert "search" in shown.stdout
    (packages,) = venv.glob("lib/python*/site-packages")
    assert not {path.name for path in packages.iterdir()} & {"torch", "onnxruntime", "transformers"}


@pytest.mark.parametrize("target", ["worker", "indexer"])
def test_images_run_without_root(stages: dict[str, Stage], target: str) -> None:
    """Both images run as a user of their own, in exec form, and stop on SIGTERM."""
    run = stages[stages[target].base]
    assert run.all("USER") == ["10001"]
    assert run.all("STOPSIGNAL") == ["SIGTERM"]
    for name in ("ENTRYPOINT", "CMD"):
        # A flag goes before a variable: in the image it could not be changed from outside.
        assert target == "indexer" or not stages[target].all("CMD")
        assert all(isinstance(json.loads(form), list) for form in stages[target].all(name))
    assert list(stages)[-1] == "worker"
