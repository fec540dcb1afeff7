"""Which rows are alive, against a dictionary that is told everything as it happens."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from indexer.store.liveness import Events, overtaken

DELETION = -1
IDS = st.sampled_from(["a", "b", "c", "d", "e"])


@dataclass
class Index:
    """An index as a user thinks of it: a dictionary from ids to rows; beside it the rows and deletions."""

    events: list[tuple[int, str]] = field(default_factory=list)
    alive: dict[str, int] = field(default_factory=dict)
    files: dict[str, list[int]] = field(default_factory=dict)
    superseded: list[int] = field(default_factory=list)
    end: int = 0

    def add(self, name: str, doc_ids: Iterable[str]) -> None:
        """Plans a file; one that was there before has changed, and its rows of old are gone."""
        old = set(self.files.get(name, ()))
        self.superseded += sorted(old)
        self.alive = {doc_id: row for doc_id, row in self.alive.items() if row not in old}
        self.files[name] = []
        for doc_id in doc_ids:
            self.events.append((self.end, doc_id))
            self.alive[doc_id] = self.end
            self.files[name].append(self.end)
            self.end += 1

    def delete(self, doc_id: str) -> None:
        """Deletes an id, whether it is there or not."""
        self.events.append((DELETION, doc_id))
        self.alive.pop(doc_id, None)

    def dead(self, at_once: int) -> set[int]:
        """Asks the code under test."""

        def read() -> Iterator[Events]:
            for start in range(0, len(self.events), 3):
                some = self.events[start : start + 3]
                yield Events(np.array([row for row, _ in some]), [doc_id for _, doc_id in some])

        found = overtaken(read, len(self.events), at_once)
        assert found.tolist() == sorted(set(found.tolist()))
        rows = {row for row, _ in self.events}
        return set(found.tolist()) | (set(self.superseded) & rows)

    def compact(self, rows: int, at_once: int) -> None:
        """Takes out the first dead rows, as a `compact` that is killed does, or all of them."""
        gone = set(sorted(self.dead(at_once))[:rows])
        self.events = [(row, doc_id) for row, doc_id in self.events if row not in gone]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.sampled_from(["A", "B", "C"]), st.lists(IDS, max_size=5, unique=True)),
        st.tuples(st.just("delete"), IDS),
        st.tuples(st.just("compact"), st.integers(0, 12)),
    ),
    max_size=12,
)


@given(STEPS, st.integers(1, 8))
def test_what_is_alive_is_what_a_dictionary_would_hold(steps: list[tuple[str, ...]], at_once: int) -> None:
    """Parts, changed files, replaced ids, deletions and whole or killed compactions, in any order."""
    index = Index()
    for name, *arguments in steps:
        if name == "compact":
            index.compact(int(arguments[0]), at_once)
        else:
            getattr(index, name)(*arguments)
        rows = {row for row, _ in index.events} - {DELETION}
        assert rows - index.dead(at_once) == set(index.alive.values())


def test_ids_of_one_hash_are_told_apart() -> None:
    """Two ids that share their 64-bit hash are two documents."""

    class Same(str):
        def __hash__(self) -> int:
            return 7

    def read() -> Iterator[Events]:
        yield Events(np.arange(4), [Same("x"), Same("y"), Same("z"), Same("y")])

    assert overtaken(read, 4).tolist() == [1]


def test_many_passes_find_what_one_finds() -> None:
    """However few ids are compared at once, the answer is the same: 3,000 rows, every third id again."""
    doc_ids = [f"d{row}" for row in range(2000)] + [f"d{row}" for row in range(0, 3000, 3)]

    def read() -> Iterator[Events]:
        yield Events(np.arange(1500), doc_ids[:1500])
        yield Events(np.arange(1500, 3000), doc_ids[1500:])

    expected = [row for row, doc_id in enumerate(doc_ids) if doc_id in doc_ids[row + 1 :]]
    assert overtaken(read, 3000).tolist() == expected
    assert overtaken(read, 3000, at_once=100).tolist() == expected
