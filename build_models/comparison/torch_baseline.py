"""PyTorch FP32 as its users run it: the first row of the table.

Attention is the library's default (sdpa, where the architecture has it), texts of about equal length share
a padded batch.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from build_models.comparison.timing import BATCH, Run
from build_models.description import SourceModel
from build_models.export import TorchModel
from build_models.progress import progress
from build_models.quality.encode import Vectors
from build_models.quality.judgements import EvalSet
from worker.cpus import read_cpus
from worker.tokenizer import Tokenizer

ONE_AT_A_TIME = "one at a time"
BATCHES = f"in batches of {BATCH}"


class TorchBaseline(TorchModel):
    """The unmodified model, with the attention that its library would choose."""

    @property
    def source(self) -> SourceModel:
        """The description that it was read by."""
        return self._source

    def use_default_attention(self) -> None:
        """Leaves the attention that can be exported for the fast one; export before."""
        use_default_attention(self._model)

    def eval_set(self, data: EvalSet, tokenizer: Tokenizer) -> Vectors:
        """Returns the vectors and lengths of all texts of a set, in its order."""
        prompts, source = self._source.prompts, self._source
        documents, document_tokens = self._encode(
            list(data.documents.values()),
            prompts.get(source.document_prompt, ""),
            tokenizer,
            f"PyTorch: documents of {data.name}",
        )
        queries, query_tokens = self._encode(
            list(data.queries.values()),
            prompts.get(source.query_prompt, ""),
            tokenizer,
            f"PyTorch: queries of {data.name}",
        )
        return Vectors(documents, queries, document_tokens, query_tokens)

    def _encode(
        self, texts: Sequence[str], prompt: str, tokenizer: Tokenizer, label: str
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        encoded = [tokens.ids for tokens in tokenizer.encode([prompt + text for text in texts])]
        lengths = np.array([len(ids) for ids in encoded], dtype=np.int64)
        vectors = np.empty((len(texts), self.dim), dtype=np.float32)
        order = np.argsort(lengths, kind="stable")
        with threads(read_cpus().usable), progress(label, len(texts), "texts") as advance:
            for start in range(0, len(order), BATCH):
                rows = order[start : start + BATCH]
                vectors[rows] = self.reference(*_pad([encoded[row] for row in rows], self.padding_id))
                advance(len(rows))
        return vectors, lengths


def use_default_attention(network: Any) -> None:
    """Brings a model of transformers from the eager attention to that which its library would choose."""
    try:
        network.set_attn_implementation("sdpa")
    except (ValueError, NotImplementedError):
        return  # the architecture has the eager form alone, which it was loaded with


def ways(compute: Callable[[NDArray[np.int64], NDArray[np.int64]], object]) -> Mapping[str, Run]:
    """Returns the ways to run queries of one length: as one batch, and one after the other.

    Args:
        compute: Takes ids and mask, int64 `[texts, tokens]` each.
    """

    def batches(ids: NDArray[np.int64]) -> None:
        compute(ids, np.ones_like(ids))

    def single(ids: NDArray[np.int64]) -> None:
        for row in ids:
            compute(row[None], np.ones_like(row[None]))

    return {BATCHES: batches, ONE_AT_A_TIME: single}


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Lets torch compute on so many threads, the calling one among them, and restores it afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _pad(texts: Sequence[NDArray[np.int64]], padding: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    shape = len(texts), max(len(ids) for ids in texts)
    ids = np.full(shape, padding, dtype=np.int64)
    mask = np.zeros(shape, dtype=np.int64)
    for row, text in enumerate(texts):
        ids[row, : len(text)] = text
        mask[row, : len(text)] = 1
    return ids, mask
