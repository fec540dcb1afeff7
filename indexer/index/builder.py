"""Builds what a generation lacks: its template, its shards, the list of dead rows.

Guarantees: the same units, dead rows, key and memory give the same bytes, whatever was killed in between:
every shard is a filled copy of the template's file. A file gets its name when it is whole, so a build that
was killed goes on with what it had, as long as its stamp says that it would make the same.
"""

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from indexer.errors import StoreError
from indexer.index import faiss_build, faiss_index, index_rule
from indexer.index.faiss_index import VectorIndex, Written
from indexer.index.machine import usable_memory
from indexer.index.meta import Meta, Template
from indexer.index.shards import Shard, absorb, ids_between, split, units_of
from indexer.index.unit_vectors import Vectors, dead_bytes, living, read_dead, vector_pieces
from indexer.plan import Plan
from indexer.store.durable import durable_stream, make_folder, remove, write_durable
from indexer.store.layout import Layout
from indexer.store.ledger import Receipt, file_sha256, sha256, source_digest

DEAD, TEMPLATE = "dead.npy", "template.faiss"
_STAMP = "building.json"  # there while a generation is built: what goes into it
_PIECE = ".piece"  # behind a shard's name: parts of it that are joined


@dataclass(frozen=True)
class Build:
    """The making of one generation.

    Attributes:
        layout: Where the index lies.
        plan: Its plan.
        receipts: Of every unit, in order.
        dead: Row ids that are not to be found, int64, sorted.
        key: FAISS factory string.
        name: Of the generation.
        memory: Bytes that building may take; None for half of what this process may use.
        advance: Told how many more of the receipts' vectors are in the index.
    """

    layout: Layout
    plan: Plan
    receipts: tuple[Receipt, ...]
    dead: NDArray[np.int64]
    key: str
    name: str
    memory: int | None
    advance: Callable[[int], None]

    def run(self, standing: Meta | None, kept: Sequence[Shard]) -> Meta:
        """Makes all files but `meta.json`, and returns what that says.

        Args:
            standing: The generation before, where its key and model are the same.
            kept: Its shards that hold what the units hold; some are absorbed by what is new.
        """
        folder = self.layout.generations / self.name
        self._begin(folder, standing, kept)
        base = standing if kept else None  # what is filled on, and not made anew
        count = living(self.layout, self.receipts, self.dead)
        template = base.template if base is not None else self._learn(standing, count)
        empty = self._empty(template)
        memory = self._memory()
        most = faiss_build.vectors_within(empty, memory)
        limit = None if faiss_build.joins(empty) else most  # what is joined is one shard, however large
        new = self._after(kept)
        kept = kept[: absorb(kept, sum(receipt.vectors for receipt in new), limit, empty.lists)]
        self.advance(sum(receipt.vectors for shard in kept for receipt in units_of(shard, self.receipts)))
        groups = list(split(self._after(kept), limit))
        made = [self._shard(number, group, template, most) for number, group in enumerate(groups)]
        data = dead_bytes(self.dead)
        write_durable(folder / DEAD, data)
        _clear(folder, {DEAD, TEMPLATE} | {Path(shard.file).name for shard in made})
        return Meta(
            key=self.key,
            planned=base.planned if base is not None else count,
            dim=self.plan.model.dim,
            fingerprint=self.plan.model.fingerprint,
            source=source_digest(self.receipts),
            end=max((unit.base + unit.rows for unit in self.plan.units), default=0),
            shards=(*map(self._with_dead, kept), *(shard for shard in made if shard.vectors)),
            template=template,
            dead=len(self.dead),
            dead_sha256=sha256(data),
            search=(
                standing.search
                if standing is not None
                else index_rule.search_defaults(empty.lists, empty.graph, empty.refined)
            ),
            tuning=standing.tuning if standing is not None else None,
        )

    def _begin(self, folder: Path, standing: Meta | None, kept: Sequence[Shard]) -> None:
        """Empties the folder, unless a build of the very same was killed in it."""
        made_of = {
            "key": self.key,
            "model": self.plan.model.fingerprint,
            "source": source_digest(self.receipts),
            "dead": sha256(dead_bytes(self.dead)),
            "memory": self._memory(),
            "kept": [shard.file for shard in kept],
            "template": asdict(standing.template) if standing is not None and standing.template else None,
        }
        stamp = (json.dumps(made_of, indent=1) + "\n").encode()
        make_folder(folder)
        if not (folder / _STAMP).is_file() or (folder / _STAMP).read_bytes() != stamp:
            _clear(folder)
            write_durable(folder / _STAMP, stamp)

    def _memory(self) -> int:
        return usable_memory() // 2 if self.memory is None else self.memory

    def _after(self, kept: Sequence[Shard]) -> list[Receipt]:
        """Returns the receipts of units that are in none of the kept shards."""
        first = kept[-1].end_unit if kept else 0
        return [receipt for receipt in self.receipts if receipt.unit.number >= first]

    def _learn(self, standing: Meta | None, count: int) -> Template | None:
        """Makes the template from a sample of all living vectors; None for a key that learns nothing."""
        dim = self.plan.model.dim
        if not faiss_build.learns(self.key, dim):
            return None
        before = standing.template if standing is not None else None
        if before is not None and count < self._empty(before).lists:
            return before  # so few are left that they could not teach it; it knows more
        file = f"{self.name}/{TEMPLATE}"

        def read() -> Vectors:
            return vector_pieces(self.layout, self.receipts, self.dead)

        def learn(stream: BinaryIO) -> Written:
            return faiss_build.train(self.key, dim, count, read, self._memory()).write(stream)

        written = self._write(self.layout.generations / file, learn, 0)
        return Template(file, written.sha256, written.bytes)

    def _empty(self, template: Template | None) -> VectorIndex:
        """Returns an index to fill: a copy of the template."""
        if template is None:
            return faiss_build.train(self.key, self.plan.model.dim, 0, list)
        return faiss_index.read_index(self.layout.generations / template.file)

    def _shard(self, number: int, group: list[Receipt], template: Template | None, most: int) -> Shard:
        """Builds the shard of some units: whole, or in pieces that are joined."""
        file = f"{self.name}/{number:06d}.faiss"
        path, empty = self.layout.generations / file, self._empty(template)
        parts = list(split(group, most)) if faiss_build.joins(empty) else [group]
        count = living(self.layout, group, self.dead)
        if path.exists():
            self.advance(sum(receipt.vectors for receipt in group))
            written = self._write(path, empty.write, count)
        elif len(parts) == 1:
            written = self._write(path, self._filled(empty, group).write, count)
        else:
            pieces = [self._piece(path, at, part, template) for at, part in enumerate(parts)]
            written = self._write(path, lambda stream: faiss_build.join(empty, pieces, stream), count)
            for piece in pieces:
                remove(piece)
        return Shard(
            file=file,
            first_unit=group[0].unit.number,
            end_unit=group[-1].unit.number + 1,
            vectors=count,
            source=source_digest(group),
            sha256=written.sha256,
            bytes=written.bytes,
            without=f"{self.name}/{DEAD}" if len(ids_between(self.dead, group)) else "",
        )

    def _piece(self, path: Path, at: int, part: Sequence[Receipt], template: Template | None) -> Path:
        piece = path.with_name(f"{path.name}{_PIECE}{at}")
        self._write(piece, lambda stream: self._filled(self._empty(template), part).write(stream), None)
        return piece

    def _filled(self, empty: VectorIndex, group: Sequence[Receipt]) -> VectorIndex:
        pieces = vector_pieces(self.layout, group, self.dead, self.advance)
        return faiss_build.fill(empty, self.key, pieces)

    def _write(self, path: Path, write: Callable[[BinaryIO], Written], count: int | None) -> Written:
        """Writes a file of FAISS, unless it is there, and reads it back before it gets its name."""
        if path.exists():
            return Written(path.stat().st_size, file_sha256(path))
        written: list[Written] = []

        def check(temporary: Path) -> None:
            # Mapped: to read it whole would take the memory of a second index.
            found, size = faiss_index.read_index(temporary, mapped=True).count, temporary.stat().st_size
            if count not in (None, found) or size != written[0].bytes:
                raise StoreError(
                    f"{path} was written with {count} vectors in {written[0].bytes} bytes and read back with "
                    f"{found} in {size}; run again"
                )

        make_folder(path.parent)
        with durable_stream(path, check) as stream:
            written.append(write(stream))
        return written[0]

    def _with_dead(self, shard: Shard) -> Shard:
        """Returns a kept shard with the number of its vectors that are dead now."""
        its = units_of(shard, self.receipts)
        gone = ids_between(self.dead, its)
        if shard.without:
            gone = gone[~np.isin(gone, read_dead(self.layout.generations / shard.without))]
        vectors = sum(receipt.vectors for receipt in its)
        return replace(shard, dead=vectors - living(self.layout, its, gone) if len(gone) else 0)


def _clear(folder: Path, wanted: Collection[str] = ()) -> None:
    """Deletes the files of a folder but those of these names: a build that was killed may have left some."""
    for path in sorted(folder.iterdir()):
        if path.name not in wanted:
            remove(path)
