"""The FAISS indexes of an index folder: each is a product of the units; `CURRENT` names the one in use.

Guarantees: files of a generation never change once `CURRENT` names it, but for the search setting in
`meta.json`; `CURRENT` is swapped last, so a run that is killed leaves the generation before it in use.
Assumes: the caller of `update` and `save_setting` holds the lock of the index.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from indexer.config import Wishes
from indexer.errors import StoreError
from indexer.index import faiss_index, index_rule, tuning
from indexer.index.builder import DEAD, Build
from indexer.index.index_rule import KeyChoice
from indexer.index.meta import Meta
from indexer.index.open_index import OpenIndex
from indexer.index.shards import Shard, ids_between, still_true, units_of
from indexer.index.tuning import Evaluation
from indexer.index.unit_vectors import dead_bytes, read_dead, row_ids
from indexer.plan import Plan
from indexer.store.durable import write_durable
from indexer.store.layout import Layout
from indexer.store.ledger import Receipt, sha256, source_digest

_REBUILD = "delete CURRENT, and 'run' builds the FAISS index again from the units"
NO_DEAD: NDArray[np.int64] = np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class Generation:
    """One FAISS index: its name, a number of six digits, and its description."""

    name: str
    meta: Meta


def current(layout: Layout) -> Generation | None:
    """Returns the generation in use, None before the first of this edition.

    Raises:
        StoreError: `CURRENT` or what it names is damaged.
    """
    pointed = layout.pointed()
    if pointed is None or pointed[0] != layout.edition:
        return None
    name = pointed[1]
    try:
        return Generation(name, Meta.from_json(layout.meta(name).read_text(encoding="utf-8")))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise StoreError(
            f"CURRENT of {layout.root} names generation {name}, and that cannot be read ({error}); {_REBUILD}"
        ) from error


def choose(generation: Generation | None, count: int, dim: int, asked_key: str, wishes: Wishes) -> KeyChoice:
    """Returns the key for so many living vectors; that of the generation, as long as it suits them.

    Raises:
        ConfigError: No kind fits into the memory that is wished.
    """
    if generation is None:
        return index_rule.choose_key(asked_key, count, dim, wishes)
    meta = generation.meta
    return index_rule.keep_or_choose(meta.key, meta.planned, asked_key, count, dim, wishes)


def is_fresh(
    generation: Generation | None,
    receipts: Sequence[Receipt],
    asked_key: str,
    wishes: Wishes,
    dead: NDArray[np.int64] = NO_DEAD,
) -> bool:
    """Returns whether a generation holds just these units but these dead rows, under the key asked for."""
    if generation is None or not holds(generation, receipts, dead):
        return False
    meta = generation.meta
    return meta.key == choose(generation, meta.count, meta.dim, asked_key, wishes).key


def holds(generation: Generation, receipts: Sequence[Receipt], dead: NDArray[np.int64]) -> bool:
    """Returns whether a generation holds just these units, without these dead rows."""
    meta = generation.meta
    return meta.source == source_digest(receipts) and meta.dead_sha256 == sha256(dead_bytes(dead))


def update(
    layout: Layout,
    plan: Plan,
    receipts: Sequence[Receipt],
    dead: NDArray[np.int64],
    key: str,
    advance: Callable[[int], None],
    *,
    full: bool = False,
    build_memory: int | None = None,
) -> Generation:
    """Makes the next generation and puts it in use: what stands is kept, what is missing is built.

    Args:
        layout: Where the index lies.
        plan: Its plan.
        receipts: Of every unit, in order.
        dead: Row ids that are not to be found, int64, sorted.
        key: FAISS factory string; another than before builds everything anew.
        advance: Told how many more of the receipts' vectors are in the index.
        full: Build everything anew, without dead rows.
        build_memory: Bytes that building may take; None for half of what this process may use.

    Raises:
        BuildError: FAISS refused the key or the vectors.
        StoreError: A unit is damaged, or the file system refused a write.
    """
    before = current(layout)
    name = f"{int(before.name) + 1 if before else 1:06d}"
    work = Build(layout, plan, tuple(receipts), dead, key, name, build_memory, advance)
    standing = before.meta if before is not None and _is_base(before.meta, plan, key) else None
    kept = [] if full or standing is None else list(_kept(layout, standing, work))
    meta = work.run(standing, kept)
    write_durable(layout.meta(name), meta.to_json().encode())
    write_durable(layout.current, layout.pointer(name).encode())
    return Generation(name, meta)


def _is_base(meta: Meta, plan: Plan, key: str) -> bool:
    return (meta.key, meta.dim, meta.fingerprint) == (key, plan.model.dim, plan.model.fingerprint)


def _kept(layout: Layout, meta: Meta, work: Build) -> list[Shard]:
    """Returns the shards of a generation that hold what the units hold and are of their sizes."""

    def stands(shard: Shard) -> bool:
        if _size(layout.generations / shard.file) != shard.bytes:
            return False
        if not shard.without:
            return True
        left_out = read_dead(layout.generations / shard.without)
        its = ids_between(left_out, units_of(shard, work.receipts))
        return bool(np.isin(its, work.dead).all())

    return list(still_true(meta.shards, work.receipts, stands))


def open_index(layout: Layout, generation: Generation, *, mapped: bool = False) -> OpenIndex:
    """Opens the FAISS index of a generation with its search setting; `mapped` as `read_index` has it.

    Raises:
        StoreError: It is damaged, gone, or of another size than its `meta.json` says.
        BuildError: It does not know a parameter of the setting.
    """
    meta = generation.meta
    opened = []
    for shard in meta.shards:
        path = layout.generations / shard.file
        # A page of a mapped file that is not there would end the process.
        if (size := _size(path)) not in (shard.bytes, -1):
            raise StoreError(f"{path} has {size:,} bytes, its meta.json says {shard.bytes:,}; {_REBUILD}")
        opened.append(faiss_index.read_index(path, mapped=mapped))
    index = OpenIndex(opened, meta.dim, dead_rows(layout, generation), meta.count, meta.end)
    index.configure(meta.search)
    return index


def dead_rows(layout: Layout, generation: Generation) -> NDArray[np.int64]:
    """Returns the row ids that a generation does not return, int64, sorted; raises StoreError."""
    path = layout.generations / generation.name / DEAD
    found = read_dead(path)
    if sha256(dead_bytes(found)) != generation.meta.dead_sha256:
        raise StoreError(f"{path} differs from its meta.json's sha256; {_REBUILD}")
    return found


def expected_ids(layout: Layout, generation: Generation, receipts: Sequence[Receipt]) -> NDArray[np.int64]:
    """Returns the row ids that the files of a generation should hold, dead ones among them, int64, rising.

    Reads the rows of all units; raises StoreError when one is damaged.
    """
    found = [NO_DEAD]
    for shard in generation.meta.shards:
        left_out = read_dead(layout.generations / shard.without) if shard.without else NO_DEAD
        for receipt in units_of(shard, receipts):
            ids = row_ids(layout, receipt)
            found.append(ids[~np.isin(ids, left_out)])
    return np.sort(np.concatenate(found))


def save_setting(
    layout: Layout, generation: Generation, evaluation: Evaluation, wishes: Wishes
) -> Generation:
    """Chooses a search setting and stores it durably in `meta.json`; searches that start later use it.

    The caller holds the lock of the index. Returns the generation as it is now: `meta.tuning.unmet` says
    what is wished and cannot be met.
    """
    pick, chosen = tuning.tune(evaluation, wishes)
    meta = replace(generation.meta, search=pick.point.setting, tuning=chosen)
    write_durable(layout.meta(generation.name), meta.to_json().encode())
    return Generation(generation.name, meta)


def files_in_use(layout: Layout, generation: Generation) -> set[Path]:
    """Returns every file that a generation needs; all others below `faiss/` may be deleted."""
    meta, folder = generation.meta, layout.generations
    names = {shard.file for shard in meta.shards} | {shard.without for shard in meta.shards if shard.without}
    names |= {meta.template.file} if meta.template is not None else set()
    return {
        layout.meta(generation.name),
        folder / generation.name / DEAD,
        *(folder / name for name in names),
    }


def _size(path: Path) -> int:
    """Returns the size of a file in bytes, −1 without one."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return -1
