"""Gathers what becomes of the rows of one unit, in whatever order it comes. No I/O, no clock."""

from collections import deque
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from indexer.client.answers import Answer
from indexer.config import VectorType
from indexer.documents import HASH_BYTES, Batch, Copies, Reason, Reject
from indexer.plan import Unit
from indexer.store.unit_file import Chunks, StoredUnit, UnitTable

# What a row of an open unit holds beside its vectors: its id, hash, reason and their places; an estimate.
ROW_BYTES = 256


@dataclass(frozen=True)
class Piece:
    """Vectors of some documents; those of one document are together, in the order of its chunks.

    Attributes:
        rows: Row of the file, int64 `[n]`; with chunks it repeats.
        vectors: `[n, dim]`.
        token_counts: int32 `[n]`.
        truncated: bool `[n]`.
        chunks: With chunks, what each vector is of.
    """

    rows: NDArray[np.int64]
    vectors: NDArray[np.floating]
    token_counts: NDArray[np.int32]
    truncated: NDArray[np.bool_]
    chunks: Chunks | None

    @classmethod
    def of_stored(cls, stored: StoredUnit) -> "Piece":
        """Returns documents that were read from a unit's file."""
        return cls(stored.rows, stored.vectors, stored.token_counts, stored.truncated, stored.chunks)

    def taken(self, index: NDArray[np.int64] | NDArray[np.bool_], rows: NDArray[np.int64]) -> "Piece":
        """Returns some of the vectors, in the order of an index, as those of other rows."""
        chunks = None
        if self.chunks is not None:
            chunks = Chunks(*(getattr(self.chunks, one.name)[index] for one in fields(Chunks)))
        return Piece(rows, self.vectors[index], self.token_counts[index], self.truncated[index], chunks)

    def places(self, sources: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Returns where the vectors of documents are, document after document, and how many each has.

        The documents here are in the order of rows; one that is not here has none.
        """
        first = np.searchsorted(self.rows, sources, side="left")
        counts = np.searchsorted(self.rows, sources, side="right") - first
        before = np.cumsum(counts) - counts
        return np.repeat(first - before, counts) + np.arange(counts.sum()), counts


class UnitBuffer:
    """What is known of one unit until all is there.

    Args:
        unit: The unit.
        dim: Values of a vector.
        vector_type: Their type.
        chunked: Whether a document has a vector for each of its chunks.
    """

    def __init__(self, unit: Unit, dim: int, vector_type: VectorType, *, chunked: bool = False) -> None:
        self.unit = unit
        self._nothing = _nothing(dim, vector_type, chunked=chunked)
        self._pieces: deque[Piece] = deque()
        self._hashes = np.zeros((unit.rows, HASH_BYTES), dtype=np.uint8)
        self._doc_ids: list[str] = [""] * unit.rows
        self._copies: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []  # sources, rows
        self._rejects: list[Reject] = []
        self._unanswered = 0
        self._read = False
        self._expected = open_bytes(unit.rows, dim, vector_type)
        self._bytes = unit.rows * ROW_BYTES

    @property
    def size(self) -> int:
        """Bytes that it holds, or will hold with a vector for each row; an estimate."""
        return self.size_with(0)

    def size_with(self, vectors: int) -> int:
        """Returns the bytes that it would hold with so many vectors more; an estimate."""
        one: int = self._nothing.vectors.shape[1] * self._nothing.vectors.itemsize
        return max(self._expected, self._bytes + vectors * one)

    @property
    def complete(self) -> bool:
        """Whether every row has a vector, a reason, or a row to copy them from."""
        return self._read and not self._unanswered

    def expect(self) -> None:
        """Notes that a batch of this unit is under way."""
        self._unanswered += 1

    def finish_reading(self, rejects: list[Reject]) -> None:
        """Notes that no more rows follow, and those that are rejects."""
        self._rejects.extend(rejects)
        self._read = True

    def add(self, batch: Batch, answer: Answer) -> None:
        """Takes the answer for a batch of this unit."""
        self._name(batch.rows, batch.doc_ids, batch.hashes)
        rows, finite = np.asarray(batch.rows, dtype=np.int64)[answer.good], _finite(answer)
        piece = _piece(rows, answer)
        if not finite.all():
            kept = np.repeat(finite, answer.rows_each)
            piece = piece.taken(kept, piece.rows[kept])
        self.add_piece(piece)
        for failure in answer.failures:
            self.reject(batch.rows[failure.position], str(failure))
        for row in rows[~finite].tolist():
            self.reject(row, str(Reason.NOT_FINITE))
        self._unanswered -= 1

    def add_piece(self, piece: Piece) -> None:
        """Takes vectors of rows whose ids and hashes are known."""
        if len(piece.rows):
            self._pieces.append(
                replace(piece, vectors=piece.vectors.astype(self._nothing.vectors.dtype, copy=False))
            )
            self._bytes += piece.vectors.nbytes

    def add_copies(self, copies: Copies) -> None:
        """Takes rows whose vectors are to be copied."""
        self._name(copies.rows, copies.doc_ids, copies.hashes)
        self._copies.append((np.array(copies.sources, dtype=np.int64), np.array(copies.rows, dtype=np.int64)))

    def reject(self, row: int, reason: str) -> None:
        """Notes why a row has no vector."""
        self._rejects.append(Reject(row, self._doc_ids[row - self.unit.start], reason))

    def copies(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Returns row ids to copy from and the rows to copy to, each int64 `[copies]`."""
        if not self._copies:
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
        sources, rows = zip(*self._copies, strict=True)
        return np.concatenate(sources), np.concatenate(rows)

    def documents(self, rows: NDArray[np.int64]) -> tuple[Piece, dict[int, str]]:
        """Returns the vectors of some of its rows, in order, and why others have none."""
        found = []
        for piece in self._pieces:
            wanted = np.isin(piece.rows, rows)
            if wanted.any():
                found.append(piece.taken(wanted, piece.rows[wanted]))
        named = set(rows.tolist())
        reasons = {reject.row: reject.reason for reject in self._rejects if reject.row in named}
        return _joined(deque([self._nothing, *found])), reasons

    def table(self) -> UnitTable:
        """Returns the rows that have vectors, and lets go of them: once."""
        self._pieces.appendleft(self._nothing)
        piece = _joined(self._pieces)
        at = piece.rows - self.unit.start
        return UnitTable(
            unit=self.unit,
            rows=piece.rows,
            doc_ids=[self._doc_ids[place] for place in at.tolist()],
            vectors=piece.vectors,
            token_counts=piece.token_counts,
            truncated=piece.truncated,
            hashes=self._hashes[at],
            chunks=piece.chunks,
        )

    def rejects(self) -> list[Reject]:
        """Returns the rows without vectors, in the order of rows."""
        return sorted(self._rejects, key=lambda reject: reject.row)

    def _name(self, rows: list[int], doc_ids: list[str], hashes: list[bytes]) -> None:
        at = np.asarray(rows, dtype=np.int64) - self.unit.start
        self._hashes[at] = np.frombuffer(b"".join(hashes), dtype=np.uint8).reshape(-1, HASH_BYTES)
        for place, doc_id in zip(at.tolist(), doc_ids, strict=True):
            self._doc_ids[place] = doc_id


def open_bytes(rows: int, dim: int, vector_type: VectorType) -> int:
    """Returns the bytes that a unit of so many rows holds with a vector for each; an estimate."""
    return rows * (dim * np.dtype(vector_type.value).itemsize + ROW_BYTES)


def _nothing(dim: int, vector_type: VectorType, *, chunked: bool) -> Piece:
    none = np.empty(0, dtype=np.int32)
    return Piece(
        rows=np.empty(0, dtype=np.int64),
        vectors=np.empty((0, dim), dtype=vector_type.value),
        token_counts=none,
        truncated=np.empty(0, dtype=np.bool_),
        chunks=Chunks(none, none, none) if chunked else None,
    )


def _piece(rows: NDArray[np.int64], answer: Answer) -> Piece:
    """Returns the vectors of an answer, whose good texts are those of `rows`."""
    if answer.spans is None:
        return Piece(rows, answer.vectors, answer.token_counts, answer.truncated, None)
    each = answer.rows_each
    numbers = np.arange(each.sum()) - np.repeat(np.cumsum(each) - each, each)
    chunks = Chunks(numbers.astype(np.int32), answer.spans.starts, answer.spans.stops)
    marks = np.repeat(answer.truncated, each)
    return Piece(np.repeat(rows, each), answer.vectors, answer.spans.token_counts, marks, chunks)


def _finite(answer: Answer) -> NDArray[np.bool_]:
    """Returns which good texts have finite values alone, bool `[good]`."""
    finite: NDArray[np.bool_] = np.isfinite(answer.vectors).all(axis=1)
    if answer.spans is None or not finite.size:
        return finite
    each = answer.rows_each
    whole: NDArray[np.bool_] = np.logical_and.reduceat(finite, np.cumsum(each) - each)
    return whole


def _joined(pieces: deque[Piece]) -> Piece:
    """Returns pieces as one, in the order of rows, and empties the queue; a document lies in one piece whole.

    Never holds more than what is there and the result: vectors go over piece by piece.
    """
    rows = np.concatenate([piece.rows for piece in pieces])
    order = np.argsort(rows, kind="stable")
    counts = np.concatenate([piece.token_counts for piece in pieces])[order]
    marks = np.concatenate([piece.truncated for piece in pieces])[order]
    chunks = None
    if pieces[0].chunks is not None:
        parts = [piece.chunks for piece in pieces if piece.chunks is not None]
        named = [np.concatenate([getattr(part, one.name) for part in parts]) for one in fields(Chunks)]
        chunks = Chunks(*(values[order] for values in named))
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    vectors = np.empty((len(rows), pieces[0].vectors.shape[1]), dtype=pieces[0].vectors.dtype)
    first = 0
    while pieces:
        piece = pieces.popleft()
        vectors[place[first : first + len(piece.rows)]] = piece.vectors
        first += len(piece.rows)
    return Piece(rows[order], vectors, counts, marks, chunks)
