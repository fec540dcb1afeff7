"""Documents that are added, replaced and deleted, and what `compact` leaves of them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from build_models.quality.docstrings import Docstring
from indexer.search.searcher import Searcher
from indexer.store.layout import Layout
from indexer.store.ledger import committed, load_plan
from indexer.store.liveness import documents
from tests.integration.indexer.conftest import Indexer
from tests.integration.indexer.updates import Archive, answers, copied, failures, vectors_of


@dataclass(frozen=True)
class Updated:
    """An index that was updated and never compacted; tests work on copies.

    Attributes:
        archive: Its inputs, as they are after the update.
        index: The index.
        held: Ids and texts that it should hold.
    """

    archive: Archive
    index: Path
    held: dict[str, str]


@pytest.fixture(scope="module")
def updated(
    tiny_bundle: Path,
    some_docstrings: list[Docstring],
    start_shared_worker: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Updated:
    """Made once; see `Archive.first` and `second`."""
    address = start_shared_worker(tiny_bundle, "--processes", "1").address
    folder = tmp_path_factory.mktemp("updated")
    texts = [docstring.text for docstring in some_docstrings[:150]]
    archive = Archive(folder, address, Indexer(), texts, "--index-key", "Flat")
    archive.first(folder / "index")
    held = archive.second(folder / "index")
    return Updated(archive, folder / "index", held)


@pytest.fixture
def index(updated: Updated, request: pytest.FixtureRequest) -> Path:
    """A copy of the updated index."""
    return copied(updated.index, request.node.name)


def _held(index: Path) -> set[str]:
    """Returns the ids that a search of everything finds."""
    return {doc_id for doc_id, _ in answers(index, vectors_of(index)[:1])[0]}


def test_searches_find_what_a_dictionary_would_hold(updated: Updated, tmp_path: Path) -> None:
    """After a new file, a changed one, a moved id and a deletion: the answers of an index made afresh."""
    assert _held(updated.index) == updated.held.keys()
    assert not failures(updated.index)
    afresh = Archive(
        tmp_path, updated.archive.address, Indexer(), updated.archive.texts, "--index-key", "Flat"
    )
    afresh.write("all", updated.held)
    afresh.run(tmp_path / "afresh")
    queries = vectors_of(updated.index)
    assert answers(updated.index, queries) == answers(tmp_path / "afresh", queries)


def test_delete_says_what_it_found(index: Path, updated: Updated, indexer: Any, tmp_path: Path) -> None:
    """Found, gone before and unknown ids are told; the same command once more changes no byte."""
    ids = tmp_path / "ids.txt"
    ids.write_text("d0\r\nd2\n\nd1\nnobody\nnone\nnot there\nno one\n", encoding="utf-8")
    command = ["delete", "--index", index, "--ids-file", ids]
    said = indexer.run(*command).stdout
    assert "deleted    2 documents" in said
    assert "gone       1 had been deleted or replaced before" in said
    assert "unknown    4 are not in the index: 'nobody', 'none', 'not there', …" in said
    assert _held(index) == updated.held.keys() - {"d0", "d2"}
    assert not failures(index)
    before = indexer.tree(index)
    assert "deleted    0 documents" in indexer.run(*command).stdout
    assert indexer.tree(index) == before


def test_a_deleted_document_stays_away_until_its_file_changes(
    index: Path, updated: Updated, indexer: Any
) -> None:
    """`run` with the same inputs brings back nothing that was deleted."""
    before = indexer.tree(index)
    assert "nothing was left to embed" in updated.archive.run(index)
    assert indexer.tree(index) == before


def test_compact_leaves_what_lives(index: Path, updated: Updated, indexer: Any) -> None:
    """Same answers, same row ids, no dead row and no file that nothing names; twice is once."""
    queries, before = vectors_of(index), _row_ids(index)
    expected, size = answers(index, queries), sum(map(len, indexer.tree(index).values()))
    with Searcher(index) as running:
        said = indexer.run("compact", "--index", index).stdout
        # A search that was running goes on with what it has open.
        assert [hit.doc_id for hit in running.search_vectors(queries[:1], 200)[0]] == [
            doc_id for doc_id, _ in expected[0]
        ]
    assert answers(index, queries) == expected
    assert not failures(index)
    after = _row_ids(index)
    assert {row: doc_id for row, doc_id in before.items() if row in after} == after
    assert set(after.values()) == updated.held.keys()
    assert sorted(path.name for path in (index / "faiss").iterdir()) == ["000004"]
    tree = indexer.tree(index)
    assert sum(map(len, tree.values())) < size, said
    assert "taken out  0 documents" in indexer.run("compact", "--index", index).stdout
    assert indexer.tree(index) == tree


def _row_ids(index: Path) -> dict[int, str]:
    layout = Layout.in_use(index)
    plan = load_plan(layout)
    found: dict[int, str] = {}
    for receipt in committed(layout, plan).values():
        events = documents(layout, receipt, doc_ids=True)
        found |= dict(zip(events.rows.tolist(), events.doc_ids, strict=True))
    return found


def test_a_lost_deletion_brings_nothing_back(index: Path, updated: Updated, indexer: Any) -> None:
    """A run on an index whose last deletion is gone is refused, and searches find what they found."""
    before = _held(index)
    (deletion,) = (index / "deletions").glob("*.parquet")
    deletion.unlink()
    done = indexer.run(*updated.archive.command(index), "--index-key", "IVF4,Flat", code=1)
    assert "nothing says so any more" in done.stderr.splitlines()[-1]
    assert _held(index) == before
