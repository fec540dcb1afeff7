"""sentence-transformers as a peer: torch FP32, or ONNX INT8 made by its own export with a preset.

Usage: python -m tests.bench.peer_sentence_transformers MODEL_DIR CACHE_DIR fp32|avx2|avx512|avx512_vnni
"""

import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer, export_dynamic_quantized_onnx_model

from tests.bench.peer_loop import serve


def load(model_dir: Path, cache: Path, precision: str) -> SentenceTransformer:
    """Returns the model, exporting and quantizing it first where no earlier run did."""
    if precision == "fp32":
        return SentenceTransformer(str(model_dir), device="cpu", local_files_only=True)
    folder = cache / f"sentence-transformers-{precision}"
    name = f"onnx/model_qint8_{precision}.onnx"
    if not (folder / name).exists():
        exported = SentenceTransformer(str(model_dir), backend="onnx", device="cpu", local_files_only=True)
        exported.save_pretrained(str(folder))
        export_dynamic_quantized_onnx_model(
            exported, precision, str(folder), file_suffix=f"qint8_{precision}"
        )
    return SentenceTransformer(
        str(folder), backend="onnx", device="cpu", local_files_only=True, model_kwargs={"file_name": name}
    )


def main() -> None:
    """Loads the model named by argv and serves jobs."""
    model = load(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
    model.max_seq_length = 256

    def encode(texts: list[str], setting: Mapping[str, Any]) -> NDArray[np.float32]:
        # encode() sorts by length itself.
        vectors: NDArray[np.float32] = model.encode(
            texts, batch_size=setting["batch"], show_progress_bar=False, normalize_embeddings=True
        )
        return vectors

    serve(encode, {name: version(name) for name in ("sentence-transformers", "torch", "onnxruntime")})


if __name__ == "__main__":
    main()
