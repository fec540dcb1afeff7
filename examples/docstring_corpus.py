"""Writes a Parquet corpus of Python docstrings: a document collection that every machine already has.

    python examples/docstring_corpus.py docstrings.parquet

Columns: doc_id (qualified name), title (signature), text (docstring). Files are parsed, never imported.
The standard library comes first, then packages of the table below, until there are enough documents.
"""

import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from build_models.quality.docstrings import Docstring, iter_docstrings

DOCUMENTS = 2000
MIN_CHARACTERS = 120  # shorter docstrings say little more than the name does; arbitrary

# Packages that fill up what the standard library leaves open, in this order, where they are installed.
PACKAGES = ("numpy", "click", "rich", "networkx", "hypothesis")

# Parts that few people search: windows, games, builds, and what was or will be removed.
LEFT_OUT = frozenset(
    {"tkinter", "turtle", "turtledemo", "lib2to3", "distutils", "pydoc_data", "ensurepip", "f2py"}
)


def candidates() -> Iterator[Docstring]:
    """Yields documented public functions and classes, always in the same order on one installation."""
    paths = sysconfig.get_paths()
    yield from iter_docstrings([Path(paths["stdlib"])])
    for package in PACKAGES:
        for docstring in iter_docstrings([Path(paths["purelib"]) / package]):
            name = f"{package}.{docstring.qualified_name}"
            yield Docstring(name, docstring.signature, docstring.text)


def worth_reading(docstring: Docstring) -> bool:
    """Tells whether this is a public function or class, of a part that people use, with real text."""
    parts = docstring.qualified_name.split(".")
    public = not any(part.startswith("_") or part in LEFT_OUT for part in parts)
    return (
        public
        and docstring.signature.startswith(("def ", "class ", "async def "))
        and len(docstring.text) >= MIN_CHARACTERS
    )


def write_corpus(path: Path, count: int = DOCUMENTS) -> int:
    """Writes the first `count` candidates worth reading; returns how many there were."""
    rows = []
    for docstring in filter(worth_reading, candidates()):
        rows.append(docstring)
        if len(rows) == count:
            break
    table = pa.table(
        {
            "doc_id": [row.qualified_name for row in rows],
            "title": [row.signature for row in rows],
            "text": [row.text for row in rows],
        }
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    pq.write_table(table, temporary, compression="zstd")
    temporary.replace(path)  # an interrupted run leaves no half of a corpus behind
    return len(rows)


if __name__ == "__main__":
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "docstrings.parquet")
    print(f"{target}: {write_corpus(target)} docstrings")
