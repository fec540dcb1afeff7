"""fastembed as a peer, on a local INT8 ONNX model.

Usage: python -m tests.bench.peer_fastembed MODEL_DIR

MODEL_DIR holds `model.onnx`, `tokenizer.json`, `tokenizer_config.json` (with the cut in
`model_max_length`), `special_tokens_map.json` and `config.json`.
"""

import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from fastembed import TextEmbedding
from fastembed.common.model_description import ModelSource, PoolingType
from numpy.typing import NDArray

from tests.bench.peer_loop import serve

NAME = "embedpool/bench"


def main() -> None:
    """Registers and loads the model, then serves jobs."""
    folder = Path(sys.argv[1])
    TextEmbedding.add_custom_model(
        model=NAME,
        pooling=PoolingType.MEAN,
        normalization=True,
        sources=ModelSource(hf=NAME),
        dim=384,
        model_file="model.onnx",
    )
    model = TextEmbedding(NAME, specific_model_path=str(folder), local_files_only=True)

    def encode(texts: list[str], setting: Mapping[str, Any]) -> NDArray[np.float32]:
        return np.stack(list(model.embed(texts, batch_size=setting["batch"], parallel=setting["parallel"])))

    serve(encode, {name: version(name) for name in ("fastembed", "onnxruntime")})


if __name__ == "__main__":
    main()
