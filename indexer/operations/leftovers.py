"""Files of an index that nothing names any more, and how they go.

What a command leaves behind when it is killed, or replaces, is named by no receipt, and by no generation that
is in use. Only names that the indexer itself gives are touched: what else lies in the folder is its owner's.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from indexer.index import generations
from indexer.index.generations import Generation
from indexer.store.durable import remove, remove_folder
from indexer.store.layout import Layout
from indexer.store.ledger import Receipt

_OURS = re.compile(
    r"(plan\.json|CURRENT|additions/\d{6}\.json|deletions/\d{6}\.parquet)\.tmp"
    r"|units/\d{6}(\.r\d+)?\.parquet(\.tmp)?"
    r"|units/\d{6}\.receipt\.json(\.tmp)?"
    r"|rejects/\d{6}\.parquet(\.tmp)?"
    r"|faiss/(\d{6}/.*|repair\.json(\.tmp)?)"
)
# The order in which a whole edition goes: as long as its plan is there, it can be seen what it was.
_EDITION = ("faiss", "rejects", "units", "deletions", "additions", "plan.json")


def leftovers(layout: Layout, receipts: Iterable[Receipt], generation: Generation | None) -> list[Path]:
    """Returns the files of an edition that neither its receipts nor its generation name, sorted."""
    named = set(named_files(layout, receipts))
    if generation is not None:
        named |= generations.files_in_use(layout, generation)
    here = (path for folder in _folders(layout) for path in folder.rglob("*"))
    return sorted(
        path for path in {*here, *layout.base.glob("*.tmp")}
        if path.is_file() and path not in named and _OURS.fullmatch(path.relative_to(layout.base).as_posix())
    )  # fmt: skip


def named_files(layout: Layout, receipts: Iterable[Receipt]) -> Iterator[Path]:
    """Yields the files of units that their receipts vouch for, and the receipts."""
    for receipt in receipts:
        yield layout.receipt(receipt.unit.number)
        yield layout.unit(receipt.unit.number, receipt.revision)
        if receipt.rejects_sha256:
            yield layout.unit_rejects(receipt.unit.number)


def left_editions(layout: Layout) -> list[Layout]:
    """Returns the editions before this one that are still there, whole or in part."""
    before = (Layout(layout.root, edition) for edition in range(1, layout.edition))
    return [old for old in before if any((old.base / name).exists() for name in _EDITION)]


def clear(layout: Layout, paths: Iterable[Path]) -> None:
    """Deletes files, and the folders of generations that are empty then, durably; raises StorageError."""
    for path in paths:
        remove(path)
    for folder in sorted(layout.generations.glob("*")) if layout.generations.is_dir() else ():
        if folder.is_dir() and not any(folder.iterdir()):
            remove_folder(folder)


def clear_edition(layout: Layout) -> None:
    """Deletes an edition that is not in use, durably; raises StorageError."""
    for name in _EDITION:
        _clear(layout.base / name)
    if layout.base != layout.root and layout.base.is_dir():
        _clear(layout.base)


def _clear(path: Path) -> None:
    if path.is_dir():
        for entry in sorted(path.iterdir()):
            _clear(entry)
        remove_folder(path)
    else:
        remove(path)


def size_of(layout: Layout) -> int:
    """Returns the bytes of all files below the folder of an index."""
    return sum(path.stat().st_size for path in layout.root.rglob("*") if path.is_file())


def _folders(layout: Layout) -> Iterator[Path]:
    names = (layout.units, layout.rejects, layout.generations, layout.additions, layout.deletions)
    return (folder for folder in names if folder.is_dir())
