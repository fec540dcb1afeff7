"""FAISS indexes, read and searched. `faiss_build` and `selection` belong to it: no other file imports faiss.

Similarity is the inner product, which is the cosine for vectors of unit length. Ids are the caller's int64.
"""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import faiss
import numpy as np
from numpy.typing import NDArray

from indexer.errors import BuildError, StoreError
from indexer.index.machine import usable_cpus
from indexer.index.selection import Chosen, inner, refinement, selected, sifted, takes_selection

_WRITE_BYTES = 1 << 20  # of one call of the writer; arbitrary


@dataclass(frozen=True)
class Written:
    """Bytes and hex sha256 of an index that was written."""

    bytes: int
    sha256: str


class VectorIndex:
    """A FAISS index whose ids are the caller's.

    Guarantees: many threads may search at once; nobody changes parameters meanwhile.
    """

    def __init__(self, index: Any) -> None:
        self._index = index
        self._selects: bool | None = None  # whether its kind takes a selection; unknown before the first

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
        return hasattr(inner(self._index), "hnsw")

    @property
    def refined(self) -> bool:
        """Whether it compares its best candidates once more, by better codes."""
        return refinement(self._index) is not None

    def ids(self) -> NDArray[np.int64]:
        """Returns the ids of all vectors, int64 `[count]`, rising."""
        if isinstance(self._index, faiss.IndexIDMap):
            found = faiss.vector_to_array(self._index.id_map)
        else:
            inverted = faiss.extract_index_ivf(self._index)
            lists: Any = inverted.invlists
            pieces = [
                faiss.rev_swig_ptr(lists.get_ids(at), lists.list_size(at)).copy()
                for at in range(inverted.nlist)
                if lists.list_size(at)
            ]
            found = np.concatenate(pieces) if pieces else np.empty(0, dtype=np.int64)
        return np.sort(found.astype(np.int64, copy=False))

    def configure(self, parameters: Mapping[str, int]) -> None:
        """Sets search parameters by FAISS's names: `nprobe`, `efSearch`, `k_factor_rf`.

        Raises:
            BuildError: The index has none of such a name.
        """
        inverted, refine = faiss.try_extract_index_ivf(self._index), refinement(self._index)
        for name, value in parameters.items():
            if name == "nprobe" and inverted is not None:
                inverted.nprobe = value
            elif name == "efSearch" and self.graph:
                inner(self._index).hnsw.efSearch = value
            elif name == "k_factor_rf" and refine is not None:
                refine.k_factor = value
            else:
                raise BuildError(f"this index has no search parameter '{name}'; build the index again")

    def search(
        self, queries: NDArray[np.float32], k: int, chosen: Chosen | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Returns scores float32 and ids int64, `[queries, k]`, best first; id −1 where there is none.

        Args:
            queries: float32 `[queries, dim]`.
            k: Hits for each.
            chosen: Ids that may be returned; None for all. Kinds that take no selection are asked for more
                until enough of the chosen are among their hits.
        """
        queries = np.ascontiguousarray(queries)
        if chosen is None:
            scores, ids = self._index.search(queries, k)
            return scores, ids
        if self._selects is None:
            self._selects = takes_selection(self._index)
        scores, ids = (selected if self._selects else sifted)(self._index, queries, k, chosen)
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
            f"cannot read FAISS index {path} ({reason(error)}); "
            "delete CURRENT, and 'run' builds it from the units"
        ) from error


def reason(error: BaseException) -> str:
    """Returns what FAISS says, without where in its sources it says so."""
    return str(error).strip().rsplit(" at ", 1)[-1].split(": ", 1)[-1].split("\n", 1)[0]


@contextmanager
def one_thread() -> Iterator[None]:
    """Searches of this thread use one core within the block."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def _mapping() -> int:
    """Returns FAISS's flag for mapped files: of any index where it can, else of inverted lists."""
    newer = getattr(faiss, "IO_FLAG_MMAP_IFC", None)
    return int(faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY if newer is None else newer)
