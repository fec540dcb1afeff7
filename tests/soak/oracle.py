"""Texts of varied length and their vectors, computed in this process by the worker's own session."""

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.integration.conftest import TRAP_WORDS
from worker.bundle import read_bundle
from worker.session import Session
from worker.tokenizer import Tokenizer

TEXTS = 400  # enough for some hundred shapes; arbitrary
_SEED = 11
_LEAST_COSINE = 0.99999  # of texts that may share a run; those that run alone must agree in every bit


@dataclass(frozen=True)
class Oracle:
    """Right answers.

    Attributes:
        texts: What is embedded.
        documents: float32 `[texts, dim]` with the prompt of documents.
        queries: float32 `[texts, dim]` with the prompt of queries.
        exact: Whether answers must agree in every bit.
    """

    texts: list[str]
    documents: NDArray[np.float32]
    queries: NDArray[np.float32]
    exact: bool

    def agrees(self, vector: NDArray[np.float32], expected: NDArray[np.float32]) -> bool:
        """Returns whether an answer is right."""
        if self.exact:
            return vector.tobytes() == expected.tobytes()
        lengths = float(np.linalg.norm(vector) * np.linalg.norm(expected))
        return bool(vector @ expected >= _LEAST_COSINE * lengths)


def make_oracle(folder: Path) -> Oracle:
    """Embeds texts of 1 to 300 words with a bundle, one at a time."""
    bundle = read_bundle(folder)
    manifest, session = bundle.manifest, Session(bundle)
    tokenizer = Tokenizer(bundle.tokenizer, manifest.max_tokens)
    drawn = random.Random(_SEED)
    # The words of the trap model; to another model they are as good as any.
    words = TRAP_WORDS[4:]
    texts = [" ".join(drawn.choices(words, k=drawn.choice([3, 12, 40, 300]))) for _ in range(TEXTS)]

    def embed(prompt_name: str) -> NDArray[np.float32]:
        prompt = manifest.prompts.get(prompt_name, "")
        tokens = tokenizer.encode([prompt + text for text in texts])
        return np.concatenate([session.embed([one.ids]) for one in tokens])

    return Oracle(
        texts, embed(manifest.document_prompt), embed(manifest.query_prompt), manifest.max_group_tokens == 0
    )
