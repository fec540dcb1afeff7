"""A sample of an evaluation set with the FP32 model's vectors of it: what a search compares recipes on."""

import random

import numpy as np
from numpy.typing import NDArray

from build_models.quality.buckets import cosines
from build_models.quality.encode import Vectors
from build_models.quality.evaluate import Reference
from build_models.quality.judgements import EvalSet
from build_models.quality.search import overlap, search
from worker.bundle import Bundle
from worker.tokenizer import Tokenizer

_DOCUMENTS, _QUERIES = 400, 150  # seconds a recipe; arbitrary
_DEPTH = 10


class Sample:
    """Some documents and queries of a set, picked by a seed.

    Attributes:
        data: The sample as a set; its judgements are left out, because agreement with FP32 needs none.
    """

    def __init__(self, reference: Reference, seed: int) -> None:
        chance = random.Random(seed)  # noqa: S311  not cryptography
        data, vectors = reference.data, reference.vectors
        rows = sorted(chance.sample(range(len(data.documents)), min(_DOCUMENTS, len(data.documents))))
        asked = sorted(chance.sample(range(len(data.queries)), min(_QUERIES, len(data.queries))))
        documents, queries = list(data.documents.items()), list(data.queries.items())
        self.data = EvalSet(
            data.name, dict(documents[row] for row in rows), dict(queries[row] for row in asked), {}
        )
        self._documents, self._queries = vectors.documents[rows], vectors.queries[asked]
        _, scores = search(self._queries, self._documents, _DEPTH)
        self._last = scores[:, -1]

    def compare(self, found: Vectors) -> tuple[float, float]:
        """Returns overlap@10 of a candidate's vectors with FP32's, and the mean cosine of its documents."""
        hits, _ = search(found.queries, found.documents, _DEPTH)
        shares = overlap(self._queries, self._documents, hits, self._last)
        return float(shares.mean()), float(cosines(self._documents, found.documents).mean())

    def probes(self, bundle: Bundle, count: int) -> list[NDArray[np.int64]]:
        """Returns token ids `[tokens]` of a few texts: documents and queries in equal parts."""
        texts = [*list(self.data.documents.values())[: count // 2], *list(self.data.queries.values())]
        tokenizer = Tokenizer(bundle.tokenizer, bundle.manifest.max_tokens)
        return [tokens.ids for tokens in tokenizer.encode(texts[:count])]
