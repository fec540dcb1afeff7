"""An index that changes while it is searched: each search gets the generation that is in use.

Guarantees: any thread may ask and reload at once; no search fails because the index was updated, compacted
or given another model meanwhile: searches under way end on the generation that they began with, which is then
freed. A new generation that cannot be opened leaves the old one in use, and is told to who reloads.
"""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from indexer.errors import StoreError
from indexer.search.snapshot import Snapshot, in_use
from indexer.store.layout import Layout

_TRIES = 5  # to open what CURRENT names, where it moves on in the meantime; arbitrary, updates take seconds

T = TypeVar("T")


class Following:
    """The generation in use of the index in a folder.

    Args:
        root: Folder of the index.
        mapped: As `Snapshot` has it.

    Raises:
        StoreError: The folder is no complete index, or damaged.
    """

    def __init__(self, root: Path, *, mapped: bool = False) -> None:
        self._root, self._mapped = root, mapped
        self._reloading = threading.Lock()
        self._snapshot = self._opened(None)

    @property
    def snapshot(self) -> Snapshot:
        """The generation to search with now; hold it for as long as one search takes."""
        return self._snapshot

    def reload(self) -> bool:
        """Opens what CURRENT names now, if that is another generation, edition or search setting.

        Returns:
            Whether it is another.

        Raises:
            StoreError: It is damaged; the old one stays in use.
        """
        with self._reloading:
            if in_use(self._root) == self._snapshot.place:
                return False
            self._snapshot = self._opened(self._snapshot)
            return True

    def search(self, find: Callable[[Snapshot], T]) -> T:
        """Returns what `find` finds; once more where files of a generation that was left are gone.

        Raises:
            StoreError: Files of the generation in use are damaged or gone.
        """
        snapshot = self._snapshot
        try:
            return find(snapshot)
        except StoreError:
            if not self.reload() and self._snapshot is snapshot:
                raise
        return find(self._snapshot)

    def _opened(self, before: Snapshot | None) -> Snapshot:
        for tries_left in reversed(range(_TRIES)):
            pointed = Layout(self._root).pointed()
            try:
                return Snapshot(in_use(self._root), mapped=self._mapped, before=before)
            except StoreError:
                # What CURRENT named a moment ago may be gone by now; else it is damaged.
                if not tries_left or Layout(self._root).pointed() == pointed:
                    raise
        raise AssertionError("the last try returns or raises")
