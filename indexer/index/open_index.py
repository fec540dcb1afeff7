"""An index that is open: shards that are searched as one, and the rows that are not returned.

Guarantees: many threads may search at once; dead rows are never returned; hits are sorted by score, equal
scores by row id.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from indexer.index.faiss_index import VectorIndex
from indexer.index.selection import Chosen

NOBODY = -1  # id where there is no hit


class OpenIndex:
    """The shards of a generation.

    Args:
        shards: In the order of units.
        dim: Length of a vector.
        dead: Row ids that are not returned, int64 `[dead]`, sorted.
        count: Vectors that are left.
        end: One past the highest row id.
    """

    def __init__(
        self, shards: Sequence[VectorIndex], dim: int, dead: NDArray[np.int64], count: int, end: int
    ) -> None:
        self._shards = tuple(shard for shard in shards if shard.count)
        self._dim = dim
        self._count = count
        stored = sum(shard.count for shard in shards)
        self._alive: Chosen | None = None
        if count < stored:
            mask = np.ones(end, dtype=np.bool_)
            mask[dead] = False
            self._alive = Chosen.of(mask, count / stored)

    @property
    def count(self) -> int:
        """Vectors that can be found."""
        return self._count

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self._dim

    @property
    def lists(self) -> int:
        """Number of inverted lists; 0 for an index without any."""
        return max((shard.lists for shard in self._shards), default=0)

    @property
    def graph(self) -> bool:
        """Whether its shards are HNSW graphs."""
        return any(shard.graph for shard in self._shards)

    @property
    def refined(self) -> bool:
        """Whether it compares its best candidates once more, by better codes."""
        return any(shard.refined for shard in self._shards)

    def ids(self) -> NDArray[np.int64]:
        """Returns the row ids of all vectors in the files, dead ones among them, int64, rising."""
        return np.sort(np.concatenate([np.empty(0, np.int64), *(shard.ids() for shard in self._shards)]))

    def configure(self, parameters: Mapping[str, int]) -> None:
        """Sets search parameters by FAISS's names; raises BuildError for a name that it does not know."""
        for shard in self._shards:
            shard.configure(parameters)

    def search(
        self, queries: NDArray[np.float32], k: int, allowed: NDArray[np.bool_] | Chosen | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Returns scores float32 and row ids int64, `[queries, k]`, best first; id −1 where there is none.

        Args:
            queries: float32 `[queries, dim]`.
            k: Hits for each. With chunks, hits of one document share its row id.
            allowed: bool `[plan.end]`, by row id: which may be returned; None for all. What is used again and
                again is prepared by `choose`.
        """
        chosen = self._alive if allowed is None else allowed
        if not isinstance(chosen, Chosen | None):
            chosen = self.choose(chosen)
        found = [shard.search(queries, k, chosen) for shard in self._shards]
        if not found:
            return (
                np.full((len(queries), k), -np.inf, dtype=np.float32),
                np.full((len(queries), k), NOBODY, dtype=np.int64),
            )
        ids = np.concatenate([ids for _, ids in found], axis=1)
        scores = np.concatenate([scores for scores, _ in found], axis=1)
        scores = np.where(ids == NOBODY, np.float32(-np.inf), scores)
        order = np.lexsort((ids, -scores), axis=1)[:, :k]
        return np.take_along_axis(scores, order, 1), np.take_along_axis(ids, order, 1)

    def choose(self, allowed: NDArray[np.bool_]) -> Chosen:
        """Returns the living among the rows that are allowed, bool `[plan.end]`, prepared for searches."""
        if self._alive is not None:
            end = min(len(allowed), len(self._alive.mask))
            allowed = allowed[:end] & self._alive.mask[:end]
        # Rows without a vector count as well; how many of the allowed have one is not worth a look.
        return Chosen.of(allowed, min(1.0, np.count_nonzero(allowed) / max(1, len(allowed))))
