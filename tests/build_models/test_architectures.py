"""Every architecture that is offered computes, as a graph, what the model computes in torch.

The oracle is written here once more from scratch: the unmodified model in its default attention, on texts
padded to one length with an attention mask, and pooling by hand.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from build_models.architectures import ARCHITECTURES
from build_models.candidates import Candidate, make_candidate, write_tokenizer
from build_models.description import SourceModel, describe
from build_models.export import TorchModel, check_tokenizer
from build_models.graphs.optimize import check_operators, constant_matmuls, operator_counts, optimize
from build_models.parity import check_parity
from build_models.quality.docstrings import Docstring
from build_models.recipes import FP32, RECIPES
from build_models.sources import resolve
from worker.bundle import Pooling
from worker.session import INTEGER_KERNELS, Session
from worker.tokenizer import Tokenizer

_CASES = [(architecture, Pooling.MEAN, True) for architecture in ARCHITECTURES] + [
    ("bert", Pooling.CLS, True),
    ("bert", Pooling.LAST, True),
    ("bert", Pooling.MAX, False),
    ("roberta", Pooling.CLS, False),
    ("xlm-roberta", Pooling.LAST, True),
    ("mpnet", Pooling.MAX, True),
    ("t5", Pooling.MEAN_SQRT_LENGTH, False),
    ("qwen3", Pooling.LAST, True),
    ("gemma3_text", Pooling.WEIGHTED_MEAN, False),
]
# One layer is six matrices: Q, K, V, the attention's output, and the two of the feed-forward part.
_MATRICES = dict.fromkeys(ARCHITECTURES, 2 * 6) | {
    "electra": 2 * 6 + 1,  # from the embedding's size to the layers'
    "albert": 2 * 6 + 1,  # the same, and the two layers share their weights
    "modernbert": 2 * 4,  # Q, K and V are one, and so are the two that are multiplied with each other
    # A gate beside the first matrix of the feed-forward part.
    **dict.fromkeys(("nomic_bert", "gte", "eurobert", "mt5", "qwen3", "gemma3_text"), 2 * 7),
}


def _oracle(source: SourceModel, texts: list[str]) -> NDArray[np.float32]:
    import torch
    import transformers
    from transformers import AutoTokenizer

    encoders = {"t5": transformers.T5EncoderModel, "mt5": transformers.MT5EncoderModel}
    tokenizer = AutoTokenizer.from_pretrained(source.folder)
    batch = tokenizer(texts, padding=True, truncation=True, max_length=source.max_tokens, return_tensors="pt")
    with torch.inference_mode():
        model = encoders.get(source.architecture, transformers.AutoModel).from_pretrained(source.folder)
        hidden = model(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
        ).last_hidden_state.numpy()
    rows = []
    for tokens, mask in zip(hidden, batch["attention_mask"].numpy().astype(bool), strict=True):
        real = tokens[mask]
        rows.append(
            {
                Pooling.MEAN: real.mean(axis=0),
                Pooling.CLS: real[0],
                Pooling.LAST: real[-1],
                Pooling.MAX: real.max(axis=0),
                Pooling.MEAN_SQRT_LENGTH: real.sum(axis=0) / np.sqrt(len(real)),
                Pooling.WEIGHTED_MEAN: np.average(real, axis=0, weights=np.arange(1, len(real) + 1)),
            }[source.pooling]
        )
    vectors: NDArray[np.float32] = np.stack(rows)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True) if source.normalize else vectors


def _embed(candidate: Candidate, texts: list[str]) -> NDArray[np.float32]:
    tokenizer = Tokenizer(candidate.bundle.tokenizer, candidate.bundle.manifest.max_tokens)
    return Session(candidate.bundle).embed([tokens.ids for tokens in tokenizer.encode(texts)])


@pytest.mark.parametrize(("architecture", "pooling", "normalize"), _CASES)
def test_graphs_equal_the_model(
    architecture: str,
    pooling: Pooling,
    normalize: bool,
    make_model: Callable[..., Path],
    some_docstrings: list[Docstring],
    tmp_path: Path,
) -> None:
    """The FP32 graph gives the padded and masked model's vectors; INT8 stays close and runs on integers."""
    folder = make_model(tmp_path / "model", architecture, pooling=pooling, normalize=normalize)
    source = describe(resolve(str(folder)))
    assert (source.pooling, source.normalize, source.max_tokens) == (pooling, normalize, 128)
    model = TorchModel(source)
    model.export(tmp_path / "raw.onnx")
    optimize(tmp_path / "raw.onnx", tmp_path / "lean.onnx")
    write_tokenizer(source, tmp_path / "tokenizer.json")
    check_tokenizer(source, tmp_path / "tokenizer.json")
    made = {
        recipe.name: make_candidate(
            source,
            recipe,
            tmp_path / "lean.onnx",
            tmp_path / "tokenizer.json",
            tmp_path / recipe.name,
            model.dim,
        )
        for recipe in (FP32, RECIPES["int8-dynamic"])
    }
    for candidate in made.values():
        check_operators(candidate.bundle.model)
    assert len(check_parity(model, Session(made["fp32"].bundle), source.max_tokens)) == 5

    texts = [docstring.text for docstring in some_docstrings[:24]] + ["a", "<pad> [PAD] in a text"]
    wanted = _oracle(source, texts)
    np.testing.assert_allclose(_embed(made["fp32"], texts), wanted, atol=2e-5 * np.abs(wanted).max())
    int8 = _embed(made["int8-dynamic"], texts)
    cosines = (int8 * wanted).sum(axis=1) / np.linalg.norm(int8, axis=1) / np.linalg.norm(wanted, axis=1)
    assert cosines.min() > 0.98  # random weights round worse than trained ones
    counts = operator_counts(made["int8-dynamic"].bundle.model)
    assert sum(counts.get(name, 0) for name in INTEGER_KERNELS) == _MATRICES[architecture]
    assert constant_matmuls(made["int8-dynamic"].bundle.model) == 0
    assert constant_matmuls(made["fp32"].bundle.model) == _MATRICES[architecture]
