"""Which FAISS index suits how many vectors, and how to train and search it. Pure."""

import math
from dataclasses import dataclass

from indexer.config import AUTO
from indexer.errors import BuildError

FLAT = "IDMap2,Flat"  # exact; the ids of rows have gaps where rows were rejected, so they are stored
FLAT_LIMIT = 10_000  # vectors up to which exact search is quick anyway (some ms on one core)
POINTS_PER_CENTROID = 100  # usual size of a training sample
LEAST_POINTS_PER_CENTROID = 39  # fewer make poor centroids, and FAISS warns
SEED = 20_000  # of the training sample; arbitrary
# Lists searched by default, per root of all lists: the share falls as indexes grow. Measured with 300 claims
# of SciFact against 14,979 questions of MedQuAD (384 lists): recall@10 is .76 with 16 lists, .90 with 50,
# .95 with 100, at 0.1, 0.3 and 0.4 ms a query.
_PROBES_PER_ROOT = 5
_EF_SEARCH = 64  # of HNSW: candidates kept; FAISS's own default of 16 loses recall beyond ten hits


@dataclass(frozen=True)
class KeyChoice:
    """A factory string and why it was taken."""

    key: str
    reason: str


def choose_key(asked: str, count: int) -> KeyChoice:
    """Returns the factory string for `count` vectors.

    `auto` is exact up to `FLAT_LIMIT`; above, inverted lists: about 4√N of them, but no more than there are
    `LEAST_POINTS_PER_CENTROID` vectors for.
    """
    if asked != AUTO:
        return KeyChoice(asked, f"index {asked} for {count:,} vectors, as asked")
    if count <= FLAT_LIMIT:
        return KeyChoice(FLAT, f"index {FLAT} for {count:,} vectors: exact search, up to {FLAT_LIMIT:,}")
    lists = min(round(4 * math.sqrt(count)), count // LEAST_POINTS_PER_CENTROID)
    return KeyChoice(
        f"IVF{lists},Flat",
        f"index IVF{lists},Flat for {count:,} vectors: 4√N lists, {probes(lists)} of them searched "
        f"(exact search up to {FLAT_LIMIT:,} vectors, or with --index-key Flat)",
    )


def probes(lists: int) -> int:
    """Returns how many of an index's inverted lists a search visits by default."""
    return min(lists, round(_PROBES_PER_ROOT * math.sqrt(lists)))


def search_defaults(lists: int, graph: bool) -> dict[str, int]:
    """Returns FAISS's search parameters by name, for an index of so many inverted lists (0: none)."""
    defaults = {"nprobe": probes(lists)} if lists else {}
    return {**defaults, "efSearch": _EF_SEARCH} if graph else defaults


def check_count(key: str, lists: int, count: int) -> None:
    """Raises BuildError when there are fewer vectors than inverted lists."""
    if count < lists:
        raise BuildError(
            f"index {key} needs at least {lists:,} vectors (better {LEAST_POINTS_PER_CENTROID * lists:,}), "
            f"there are {count:,}; use --index-key auto or fewer lists"
        )


def sample_size(lists: int, count: int) -> int:
    """Returns how many of `count` vectors an index learns from: enough for each list, and for codebooks."""
    least = 65_536  # enough for codebooks of 256 entries in every subspace; arbitrary beyond that
    return min(count, max(least, POINTS_PER_CENTROID * lists))
