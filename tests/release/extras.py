"""Installs each extra of a wheel alone, and starts what it is for: a forgotten dependency fails here."""

import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

# Extras to the code that must run with them and nothing else; `build` is gigabytes where torch carries CUDA.
SMOKE = {
    "worker": ("-m", "worker", "serve", "--help"),
    "worker,http": ("-c", "from worker.wires.http.codec import Codec; import uvicorn, httptools; Codec()"),
    "worker,top": ("-c", "import rich, worker.operation.top.screen"),
    "worker,tracing": ("-c", "import worker.operation.tracing, opentelemetry.sdk"),
    "indexer": ("-m", "indexer", "run", "--help"),
    "ray": ("-c", "import ray, indexer.engines.ray_engine"),
    "langchain": ("-c", "import indexer.adapters.langchain"),
    "llama-index": ("-c", "import indexer.adapters.llama_index"),
    "haystack": ("-c", "import indexer.adapters.haystack"),
}


@dataclass(frozen=True)
class Installed:
    """An environment of one extra.

    Attributes:
        extra: Its name.
        megabytes: What is installed, the interpreter aside; 10⁶ bytes.
        problem: What went wrong; "" for nothing.
    """

    extra: str
    megabytes: float
    problem: str


def environment(folder: Path, wheel: Path, extra: str, constraints: Path) -> Path:
    """Makes a virtual environment with one extra of a wheel, and returns its interpreter.

    Raises:
        CalledProcessError: pip failed; it has said why.
    """
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    subprocess.run([*install, "-c", str(constraints), f"{wheel}[{extra}]"], check=True)
    # Where the wheel lay on this machine is nobody's business: it would stand in the bill of materials.
    for place in folder.glob("lib/python*/site-packages/embedpool-*.dist-info/direct_url.json"):
        place.unlink()
    return python


def check(wheel: Path, extra: str, constraints: Path) -> Installed:
    """Installs an extra into a fresh environment and runs what it is for."""
    with tempfile.TemporaryDirectory(prefix="embedpool-extra-") as name:
        folder = Path(name)
        try:
            python = environment(folder / "venv", wheel, extra, constraints)
        except subprocess.CalledProcessError as error:
            return Installed(extra, 0.0, f"pip ended with {error.returncode}")
        size = sum(path.lstat().st_size for path in (folder / "venv").rglob("*") if not path.is_dir())
        for command in (("-m", "pip", "check"), SMOKE[extra]):
            # Outside of the repository, whose packages would hide the installed ones.
            done = subprocess.run(
                [str(python), *command], cwd=folder, capture_output=True, text=True, check=False
            )
            if done.returncode:
                words = (done.stdout + done.stderr).strip().splitlines()
                return Installed(extra, size / 1e6, words[-1] if words else "it said nothing")
        return Installed(extra, size / 1e6, "")
