"""FAISS indexes: built from vectors, written, read, searched. The only file that imports faiss.

Similarity is the inner product, which is the cosine for vectors of unit length. Ids are the caller's int64.
Guarantees: the same vectors, key and thread count give the same bytes: training draws with fixed seeds,
lists are filled in the order of vectors, and graphs, which depend on who comes first, are built by one
thread. A key that trains an HNSW graph of centroids (`IVF…_HNSW…`) is built with all threads as other lists
are, and is not promised.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import faiss
import numpy as np
from numpy.typing import NDArray

from indexer.errors import BuildError, StoreError
from indexer.index import ground_truth, index_rule
from indexer.index.ground_truth import Read

_WRITE_BYTES = 1 << 20  # of one call of the writer; arbitrary


@dataclass(frozen=True)
class Written:
    """Bytes and hex sha256 of an index that was written."""

    bytes: int
    sha256: str


class VectorIndex:
    """A FAISS index whose ids are the caller's."""

    def __init__(self, index: Any) -> None:
        self._index = index

    @property
    def count(self) -> int:
        """Number of vectors."""
        return int(self._index.ntotal)

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return int(self._index.d)

    @property
    def lists(self) -> int:
        """Number of inverted lists; 0 for an index without any."""
        inverted = faiss.try_extract_index_ivf(self._index)
        return int(inverted.nlist) if inverted is not None else 0

    @property
    def graph(self) -> bool:
        """Whether it is an HNSW graph."""
        return hasattr(_inner(self._index), "hnsw")

    def ids(self) -> NDArray[np.int64]:
        """Returns the ids of all vectors, int64 `[count]`, rising."""
        inverted = faiss.try_extract_index_ivf(self._index)
        if inverted is None:
            found = faiss.vector_to_array(self._index.id_map)
        else:
            lists: Any = inverted.invlists
            pieces = [
                faiss.rev_swig_ptr(lists.get_ids(at), lists.list_size(at)).copy()
                for at in range(inverted.nlist)
                if lists.list_size(at)
            ]
            found = np.concatenate(pieces) if pieces else np.empty(0, dtype=np.int64)
        return np.sort(found.astype(np.int64, copy=False))

    def configure(self, parameters: Mapping[str, int]) -> None:
        """Sets search parameters by FAISS's names (`nprobe`, `efSearch`); raises BuildError for others."""
        for name, value in parameters.items():
            inverted = faiss.try_extract_index_ivf(self._index)
            if name == "nprobe" and inverted is not None:
                inverted.nprobe = value
            elif name == "efSearch" and self.graph:
                _inner(self._index).hnsw.efSearch = value
            else:
                raise BuildError(f"this index has no search parameter '{name}'; build the index again")

    def search(self, queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Returns scores float32 and ids int64, `[queries, k]`, best first; id −1 where there is none.

        Args:
            queries: float32 `[queries, dim]`.
            k: Hits for each.
        """
        scores, ids = self._index.search(np.ascontiguousarray(queries), k)
        return scores, ids

    def write(self, stream: BinaryIO) -> Written:
        """Writes the index; raises what the stream raises."""
        digest = hashlib.sha256()
        failed: list[BaseException] = []
        size = 0

        def take(data: bytes) -> int:
            nonlocal size
            try:
                stream.write(data)
            except BaseException as error:
                failed.append(error)  # FAISS would tell only that there was an error
                raise
            digest.update(data)
            size += len(data)
            return len(data)

        callbacks: Any = faiss  # its type stubs leave the callback classes out
        writer = callbacks.PyCallbackIOWriter(take, _WRITE_BYTES)
        try:
            faiss.write_index(self._index, writer)
        except Exception as error:
            raise (failed[0] if failed else BuildError(f"FAISS cannot write the index: {error}")) from error
        return Written(size, digest.hexdigest())


def read_index(path: Path, *, mapped: bool = False) -> VectorIndex:
    """Reads an index; raises StoreError when it is damaged or gone.

    Args:
        path: Its file.
        mapped: Leave the vectors in the file and let the kernel fetch the pages that searches touch: it
            opens at once, takes little memory of its own, and shares it with other processes. Searches find
            the same.
    """
    try:
        with path.open("rb"):  # FAISS's own message for a missing file is long
            faiss.omp_set_num_threads(usable_cpus())
            return VectorIndex(faiss.read_index(str(path), _mapping() if mapped else 0))
    except (OSError, RuntimeError) as error:
        raise StoreError(
            f"cannot read FAISS index {path} ({_reason(error)}); "
            "delete CURRENT, and 'run' builds it from the units"
        ) from error


def _mapping() -> int:
    """Returns FAISS's flag for mapped files: of any index where it can, else of inverted lists."""
    newer = getattr(faiss, "IO_FLAG_MMAP_IFC", None)
    return int(faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY if newer is None else newer)


@contextmanager
def one_thread() -> Iterator[None]:
    """Searches of this thread use one core within the block."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def build(key: str, dim: int, count: int, read: Read, advance: Callable[[int], None]) -> VectorIndex:
    """Builds an index.

    Args:
        key: FAISS factory string.
        dim: Length of a vector.
        count: Number of vectors.
        read: Starts a pass over all ids and vectors, in order.
        advance: Told how many more vectors were added.

    Raises:
        BuildError: The key is none, or there are too few vectors for it.
    """
    try:
        made = _with_ids(faiss.index_factory(dim, key, faiss.METRIC_INNER_PRODUCT))
        index = VectorIndex(made)
        index_rule.check_count(key, index.lists, count)
        # A graph that several threads build depends on who came first.
        faiss.omp_set_num_threads(1 if index.graph else usable_cpus())
        if not made.is_trained:
            size = index_rule.sample_size(index.lists, count)
            made.train(ground_truth.sample(read(), count, size, index_rule.SEED)[1])
        for ids, vectors in read():
            made.add_with_ids(np.ascontiguousarray(vectors, dtype=np.float32), ids)
            advance(len(ids))
    except RuntimeError as error:
        raise BuildError(
            f"FAISS cannot build index '{key}' of {count:,} vectors of {dim} values ({_reason(error)}); "
            "use another --index-key, or 'auto'"
        ) from error
    return index


def usable_cpus() -> int:
    """Returns how many CPUs this process may use: its affinity mask, and the quota of its control group."""
    allowed = len(os.sched_getaffinity(0))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return allowed if quota == "max" else max(1, min(allowed, int(quota) // int(period)))
    except (OSError, ValueError):  # no control groups of version 2 here
        return allowed


def _with_ids(index: Any) -> Any:
    """Returns an index that keeps the caller's ids: inverted lists do, others are wrapped."""
    if isinstance(index, faiss.IndexIDMap) or faiss.try_extract_index_ivf(index) is not None:
        return index
    return faiss.IndexIDMap(index)


def _inner(index: Any) -> Any:
    """Returns what id maps and transforms wrap."""
    while isinstance(index, faiss.IndexIDMap | faiss.IndexPreTransform):
        index = faiss.downcast_index(index.index)
    return index


def _reason(error: BaseException) -> str:
    """Returns what FAISS says, without where in its sources it says so."""
    return str(error).strip().rsplit(" at ", 1)[-1].split(": ", 1)[-1].split("\n", 1)[0]
