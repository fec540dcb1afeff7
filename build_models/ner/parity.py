"""Brings logits into the form in which `build_models.parity` compares vectors: one row for each text."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from build_models.ner.model import TorchTagger
from build_models.parity import ShapeParity, check_parity
from worker.session import TokenSession


def check_tagger(model: TorchTagger, session: TokenSession, max_tokens: int) -> tuple[ShapeParity, ...]:
    """Compares the logits of every token of the graph with torch, on several shapes.

    Raises:
        ExportError: They differ; the message names the shape and the difference.
    """
    return check_parity(_Reference(model), _Runner(session), max_tokens)


class _Reference:
    """Torch: the logits of a text's tokens as one row, 0 at padding."""

    def __init__(self, model: TorchTagger) -> None:
        self._model = model
        self.vocabulary = model.vocabulary
        self.padding_id = model.padding_id

    def reference(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        logits = self._model.logits(ids, mask) * mask[:, :, None].astype(np.float32)
        return logits.reshape(len(ids), -1)


class _Runner:
    """The graph: each text alone, its row as long as the longest text's."""

    def __init__(self, session: TokenSession) -> None:
        self._session = session

    def embed(self, texts: Sequence[NDArray[np.int64]]) -> NDArray[np.float32]:
        found = [self._session.logits(ids).ravel() for ids in texts]
        rows = np.zeros((len(found), max(map(len, found))), dtype=np.float32)
        for row, values in zip(rows, found, strict=True):
            row[: len(values)] = values
        return rows
