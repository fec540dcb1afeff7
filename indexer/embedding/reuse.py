"""Which texts were seen before, so that each is embedded once. Pure: no files, no threads.

Memory: 24 bytes for each text seen (its whole content hash and the row id where it stood first), and up to
some 30 MB that do not grow.

Time: texts are sorted into levels, each up to `_RATIO` times as large as the one before, which is poured into
it when it is full. So a text is moved some hundred times at most, however many there are, and looked up in
three levels. (In one level, each new handful moved all: at a billion texts some 300 µs for each of them.)
"""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from indexer.documents import HASH_BYTES

_BUCKETS = 256  # by the first byte of a hash: sorting in new ones copies one small array at a time
_RECENT = 32_768  # texts kept in a dict, some 200 bytes each, before they are sorted in; arbitrary
_LOADED = 1 << 20  # rows of committed units that are sorted in at once; arbitrary
# Of the sizes of levels: a billion texts have three. A look-up in one takes 3 µs, a text moved 64 times 1 µs.
_RATIO = 64

_HALVES = np.dtype([("high", ">u8"), ("low", ">u8")])

_Bucket = tuple[
    NDArray[np.uint64], NDArray[np.uint64], NDArray[np.int64]
]  # halves of hashes, row ids; sorted


class SeenTexts:
    """Content hashes and the row id of a text with that hash.

    A text counts as the same only if all 128 bits of its hash are equal.
    """

    def __init__(self) -> None:
        self._levels: list[_Level] = []
        self._recent: dict[bytes, int] = {}
        self._loaded: list[tuple[NDArray[np.uint8], NDArray[np.int64]]] = []
        self._loaded_rows = 0

    @property
    def nbytes(self) -> int:
        """Bytes of the sorted hashes and row ids."""
        return sum(array.nbytes for level in self._levels for bucket in level.buckets for array in bucket)

    def load(self, hashes: NDArray[np.uint8], row_ids: NDArray[np.int64]) -> None:
        """Takes many texts, uint8 `[n, 16]` and int64 `[n]`; call `loaded` behind the last."""
        self._loaded.append((hashes, row_ids))
        self._loaded_rows += len(row_ids)
        if self._loaded_rows >= _LOADED:
            self.loaded()

    def loaded(self) -> None:
        """Notes that all was loaded that is to be."""
        if self._loaded:
            self._sort_in(
                np.concatenate([hashes for hashes, _ in self._loaded]),
                np.concatenate([row_ids for _, row_ids in self._loaded]),
            )
        self._loaded, self._loaded_rows = [], 0

    def first(self, name: bytes, row_id: int) -> int | None:
        """Returns the row id of an earlier text with this hash; for a new one notes it and returns None."""
        found = self._recent.get(name)
        if found is None:
            found = self._look_up(name)
        if found is None:
            self._recent[name] = row_id
            if len(self._recent) >= _RECENT:
                packed = np.frombuffer(b"".join(self._recent), dtype=np.uint8).reshape(-1, HASH_BYTES)
                self._sort_in(packed, np.fromiter(self._recent.values(), dtype=np.int64))
                self._recent = {}
        return found

    def _look_up(self, name: bytes) -> int | None:
        wanted, rest = np.uint64(int.from_bytes(name[:8], "big")), int.from_bytes(name[8:], "big")
        for level in self._levels:
            found = level.look_up(name[0], wanted, rest)
            if found is not None:
                return found
        return None

    def _sort_in(self, hashes: NDArray[np.uint8], row_ids: NDArray[np.int64]) -> None:
        halves = np.ascontiguousarray(hashes).view(_HALVES).reshape(-1)
        high, low = halves["high"].astype(np.uint64), halves["low"].astype(np.uint64)
        order = np.argsort(high, kind="stable")
        high, low, row_ids = high[order], low[order], row_ids[order]
        bounds = np.searchsorted(high >> np.uint64(56), np.arange(_BUCKETS + 1))
        self._take(0, [(high[a:b], low[a:b], row_ids[a:b]) for a, b in pairwise(bounds.tolist())])

    def _take(self, number: int, buckets: list[_Bucket]) -> None:
        """Sorts texts into a level, and that into the next one if it is full."""
        if number == len(self._levels):
            self._levels.append(_Level(_RECENT * _RATIO ** (number + 1)))
        level = self._levels[number]
        level.add(buckets)
        if level.size > level.most:
            self._levels[number] = _Level(level.most)
            self._take(number + 1, level.buckets)


class _Level:
    """Texts in buckets, each sorted; `most` of them until they go to the next level."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.size = 0
        nothing = (np.empty(0, np.uint64), np.empty(0, np.uint64), np.empty(0, np.int64))
        self.buckets: list[_Bucket] = [nothing] * _BUCKETS

    def add(self, buckets: list[_Bucket]) -> None:
        """Takes sorted texts by bucket; for a moment one bucket is there twice."""
        for number, (high, low, row_ids) in enumerate(buckets):
            if not len(high):
                continue
            old_high, old_low, old_ids = self.buckets[number]
            at = np.searchsorted(old_high, high)
            self.buckets[number] = (
                np.insert(old_high, at, high),
                np.insert(old_low, at, low),
                np.insert(old_ids, at, row_ids),
            )
            self.size += len(high)

    def look_up(self, bucket: int, wanted: np.uint64, rest: int) -> int | None:
        """Returns the row id of a text with these halves of a hash, None without one."""
        high, low, row_ids = self.buckets[bucket]
        if not row_ids.size:
            return None
        place = int(np.searchsorted(high, wanted))
        while place < len(high) and high[place] == wanted:
            if int(low[place]) == rest:
                return int(row_ids[place])
            place += 1
        return None
