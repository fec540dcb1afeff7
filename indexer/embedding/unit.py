"""Gathers the answers for one unit in whatever order they come. No I/O, no clock."""

import numpy as np

from indexer.client.answers import Answer
from indexer.config import VectorType
from indexer.documents import HASH_BYTES, Batch, Reason, Reject
from indexer.plan import Unit
from indexer.store.unit_file import UnitTable


class UnitBuffer:
    """The answers of one unit until all are there."""

    def __init__(self, unit: Unit, dim: int, vector_type: VectorType) -> None:
        self.unit = unit
        self._vectors = np.zeros((unit.rows, dim), dtype=vector_type.value)
        self._token_counts = np.zeros(unit.rows, dtype=np.int32)
        self._truncated = np.zeros(unit.rows, dtype=np.bool_)
        self._hashes = np.zeros((unit.rows, HASH_BYTES), dtype=np.uint8)
        self._good = np.zeros(unit.rows, dtype=np.bool_)
        self._doc_ids: list[str | None] = [None] * unit.rows
        self._rejects: list[Reject] = []
        self._unanswered = 0
        self._read = False

    @property
    def complete(self) -> bool:
        """Whether every row has a vector or a reason."""
        return self._read and not self._unanswered

    def expect(self) -> None:
        """Notes that a batch of this unit is under way."""
        self._unanswered += 1

    def finish_reading(self, rejects: list[Reject]) -> None:
        """Notes that no more batches follow, and the rows that got into none."""
        self._rejects.extend(rejects)
        self._read = True

    def add(self, batch: Batch, answer: Answer) -> None:
        """Takes the answer for a batch of this unit."""
        rows = np.asarray(batch.rows, dtype=np.int64)[answer.good] - self.unit.start
        finite = np.isfinite(answer.vectors).all(axis=1)
        if rows.size:  # an answer without vectors has no width either
            self._vectors[rows] = answer.vectors
        self._token_counts[rows] = answer.token_counts
        self._truncated[rows] = answer.truncated
        self._good[rows] = finite
        every = np.asarray(batch.rows, dtype=np.int64) - self.unit.start
        self._hashes[every] = np.frombuffer(b"".join(batch.hashes), dtype=np.uint8).reshape(-1, HASH_BYTES)
        first = batch.rows[0] - self.unit.start
        if batch.rows[-1] - batch.rows[0] + 1 == len(batch.rows):
            self._doc_ids[first : first + len(batch.rows)] = batch.doc_ids
        else:
            for row, doc_id in zip(batch.rows, batch.doc_ids, strict=True):
                self._doc_ids[row - self.unit.start] = doc_id
        failures = [(failure.position, str(failure)) for failure in answer.failures]
        failures += [(int(at), str(Reason.NOT_FINITE)) for at in answer.good[~finite]]
        self._rejects.extend(Reject(batch.rows[at], batch.doc_ids[at], reason) for at, reason in failures)
        self._unanswered -= 1

    def table(self) -> UnitTable:
        """Returns the rows that have vectors."""
        good = np.flatnonzero(self._good)
        every = good.size == self.unit.rows
        ids = self._doc_ids if every else [self._doc_ids[at] for at in good]
        return UnitTable(
            unit=self.unit,
            rows=good + self.unit.start,
            doc_ids=[doc_id for doc_id in ids if doc_id is not None],
            vectors=self._vectors if every else self._vectors[good],
            token_counts=self._token_counts[good],
            truncated=self._truncated[good],
            hashes=self._hashes[good],
        )

    def rejects(self) -> list[Reject]:
        """Returns the rows without vectors, in the order of rows."""
        return sorted(self._rejects, key=lambda reject: reject.row)
