"""FAISS indexes, trained and built: whole, or in pieces that are joined on disk.

Guarantees: the same vectors, key and thread count give the same bytes: training draws with fixed seeds,
lists are filled in the order of vectors, and graphs, which depend on who comes first, are built by one
thread. A key that trains an HNSW graph of centroids (`IVF…_HNSW…`) is built with all threads as other lists
are, and is not promised; nor is one with OPQ, whose matrix comes from sums that threads add up.
"""

import hashlib
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import faiss
import numpy as np

from indexer.errors import BuildError
from indexer.index import ground_truth, index_rule
from indexer.index.faiss_index import VectorIndex, Written, read_index, reason
from indexer.index.ground_truth import Pieces, Read
from indexer.index.machine import usable_cpus

_ID_BYTES = 8
_LINK_BYTES = 4
_GROWTH = 2  # lists and arrays grow by doubling: for a moment they take up to twice what they hold
# How FAISS's files end where nothing is in any inverted list: name, number of lists, bytes of a code, kind of
# the table of sizes, its length. `index_write.cpp` of FAISS; checked against its own bytes before it is used.
_NO_LISTS = struct.Struct("<4sQQ4sQ")
_LISTS, _ALL_SIZES, _SOME_SIZES = b"ilar", b"full", b"sprs"


def train(key: str, dim: int, count: int, read: Read, memory: int | None = None) -> VectorIndex:
    """Returns an empty index that has learned from a sample of all vectors.

    Args:
        key: FAISS factory string.
        dim: Length of a vector.
        count: Number of vectors.
        read: Starts a pass over all ids and vectors, in order.
        memory: Bytes that the sample may take; None for any.

    Raises:
        BuildError: The key is none, or there are too few vectors for it.
    """
    try:
        made = _with_ids(faiss.index_factory(dim, key, faiss.METRIC_INNER_PRODUCT))
        index = VectorIndex(made)
        index_rule.check_count(key, index.lists, count)
        if not made.is_trained:
            faiss.omp_set_num_threads(usable_cpus())
            most = None if memory is None else memory // (_GROWTH * dim * 4)
            size = index_rule.sample_size(index.lists, count, most)
            made.train(ground_truth.sample(read(), count, size, index_rule.SEED)[1])
    except RuntimeError as error:
        raise _refused(key, dim, count, error) from error
    return index


def learns(key: str, dim: int) -> bool:
    """Returns whether indexes of a key learn from vectors; raises BuildError when it is none."""
    try:
        return not faiss.index_factory(dim, key, faiss.METRIC_INNER_PRODUCT).is_trained
    except RuntimeError as error:
        raise _refused(key, dim, 0, error) from error


def fill(index: VectorIndex, key: str, pieces: Pieces) -> VectorIndex:
    """Adds vectors to a trained index, and returns it; raises BuildError when FAISS refuses them."""
    inner = index._index  # noqa: SLF001 - the two files are one adapter
    added = 0
    try:
        # A graph that several threads build depends on who came first.
        faiss.omp_set_num_threads(1 if index.graph else usable_cpus())
        for ids, vectors in pieces:
            inner.add_with_ids(np.ascontiguousarray(vectors, dtype=np.float32), ids)
            added += len(ids)
    except RuntimeError as error:
        raise _refused(key, index.dim, added, error) from error
    finally:
        faiss.omp_set_num_threads(usable_cpus())
    return index


def build(key: str, dim: int, count: int, read: Read, advance: Callable[[int], None]) -> VectorIndex:
    """Builds a whole index in memory; arguments and errors are those of `train`.

    `advance` is told how many more vectors were added.
    """

    def told() -> Pieces:
        for ids, vectors in read():
            yield ids, vectors
            advance(len(ids))

    return fill(train(key, dim, count, read), key, told())


def vectors_within(index: VectorIndex, memory: int) -> int:
    """Returns how many vectors an index of this kind may hold while it is built in `memory` bytes; 1 or more.

    Args:
        index: One of its kind, of any number of vectors.
        memory: Bytes.
    """
    return max(1, memory // (_GROWTH * _vector_bytes(index._index)))  # noqa: SLF001


def joins(index: VectorIndex) -> bool:
    """Returns whether indexes of this kind, filled in pieces, can be joined in a file."""
    return _head(index, 0) is not None


def join(template: VectorIndex, pieces: Sequence[Path], stream: BinaryIO) -> Written:
    """Writes what `template` would be with the vectors of all pieces, list by list, in little memory.

    The bytes are those of an index that was filled in one go.

    Args:
        template: The trained index, empty, that the pieces were made from; it is changed.
        pieces: Files of indexes, in the order of vectors.
        stream: Where to.
    """
    parts = [read_index(path, mapped=True) for path in pieces]
    lists: list[Any] = [faiss.extract_index_ivf(part._index).invlists for part in parts]  # noqa: SLF001
    head = _head(template, sum(part.count for part in parts))
    if head is None:
        raise BuildError("this kind of index cannot be joined; give more --max-build-memory")
    count, code = lists[0].nlist, lists[0].code_size
    sizes = np.array([[part.list_size(at) for at in range(count)] for part in lists], dtype=np.uint64)
    digest, written = hashlib.sha256(), 0

    def put(data: Any) -> None:
        nonlocal written
        stream.write(data)
        digest.update(data)
        written += len(data)

    put(head)
    put(_table(sizes.sum(axis=0), count, code))
    for at in range(count):
        for part in lists:
            if part.list_size(at):
                put(faiss.rev_swig_ptr(part.get_codes(at), part.list_size(at) * code).data)
        for part in lists:
            if part.list_size(at):
                names = faiss.rev_swig_ptr(part.get_ids(at), part.list_size(at))
                put(np.ascontiguousarray(names, dtype="<i8").view(np.uint8).data)
    return Written(written, digest.hexdigest())


def _head(index: VectorIndex, count: int) -> bytes | None:
    """Returns an empty index's file up to its inverted lists, as if it held `count`; None for other kinds."""
    outer = index._index  # noqa: SLF001
    inverted = faiss.try_extract_index_ivf(outer)
    if inverted is None or isinstance(outer, faiss.IndexIDMap):
        return None
    outer.ntotal = inverted.ntotal = count
    try:
        file = bytes(faiss.serialize_index(outer))
    finally:
        outer.ntotal = inverted.ntotal = 0
    tail = _NO_LISTS.pack(_LISTS, inverted.nlist, inverted.code_size, _SOME_SIZES, 0)
    return file.removesuffix(tail) if file.endswith(tail) else None


def _table(sizes: Any, lists: int, code_bytes: int) -> bytes:
    """Returns the head of inverted lists in FAISS's files: where most are empty, the others by number."""
    some = np.flatnonzero(sizes)
    most = len(some) > lists // 2
    entries = sizes if most else np.stack([some.astype(np.uint64), sizes[some]], axis=1).reshape(-1)
    kind = _ALL_SIZES if most else _SOME_SIZES
    return _NO_LISTS.pack(_LISTS, lists, code_bytes, kind, len(entries)) + entries.astype("<u8").tobytes()


def _vector_bytes(index: Any) -> int:
    """Returns the bytes that one vector takes in an index of this kind, about."""
    while isinstance(index, faiss.IndexIDMap):
        index = faiss.downcast_index(index.index)
    if hasattr(index, "hnsw"):
        links = index.hnsw.nb_neighbors(0) + 1
        return int(faiss.downcast_index(index.storage).sa_code_size() + _LINK_BYTES * links + 3 * _ID_BYTES)
    try:
        return int(index.sa_code_size()) + _ID_BYTES
    except RuntimeError:  # a kind that is no code of single vectors
        return 4 * int(index.d) + _ID_BYTES


def _with_ids(index: Any) -> Any:
    """Returns an index that keeps the caller's ids: inverted lists do by themselves, others are wrapped."""
    inner = index
    while isinstance(inner, faiss.IndexPreTransform):
        inner = faiss.downcast_index(inner.index)
    if isinstance(inner, faiss.IndexIVF | faiss.IndexIDMap):
        return index
    return faiss.IndexIDMap(index)


def _refused(key: str, dim: int, count: int, error: RuntimeError) -> BuildError:
    return BuildError(
        f"FAISS cannot build index '{key}' of {count:,} vectors of {dim} values ({reason(error)}); "
        "use another --index-key, or 'auto'"
    )
