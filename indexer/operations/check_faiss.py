"""Is the FAISS index in use whole, and just what the units and the deletions make of it?"""

import numpy as np

from indexer.errors import StoreError
from indexer.index import generations
from indexer.index.generations import Generation
from indexer.operations.standing import Standing, check_none_lost
from indexer.store.layout import Layout
from indexer.store.ledger import file_sha256, source_digest
from indexer.store.liveness import dead_rows

_REPAIR = "'repair' builds it again from the units"


def check_generation(layout: Layout, generation: Generation) -> None:
    """Raises StoreError unless every file of a generation is, byte for byte, what its `meta.json` says."""
    meta = generation.meta
    files = [(shard.file, shard.sha256) for shard in meta.shards]
    if meta.template is not None:
        files.append((meta.template.file, meta.template.sha256))
    for name, expected in files:
        path = layout.generations / name
        if not path.exists():
            raise StoreError(f"{path} is missing: {_REPAIR}")
        if file_sha256(path) != expected:
            raise StoreError(f"{path} differs from its meta.json's sha256: {_REPAIR}")
    generations.dead_rows(layout, generation)


def check_faiss(index: Standing) -> str:
    """`CURRENT` names a whole FAISS index of exactly the vectors in the units, without the dead rows."""
    layout, generation = index.layout, generations.current(index.layout)
    if generation is None:
        raise StoreError("there is no CURRENT: run the same 'run' command to build the FAISS index")
    if layout.current.read_bytes() != layout.pointer(generation.name).encode():
        raise StoreError(f"{layout.current} is not as it was written: {_REPAIR}")
    meta, where, model = generation.meta, f"generation {generation.name}", index.plan.model
    check_generation(layout, generation)
    said = (meta.source, meta.fingerprint, meta.dim)
    if said != (source_digest(index.receipts), model.fingerprint, model.dim):
        raise StoreError(f"{where} was built from other units: run the same 'run' command")
    dead = dead_rows(layout, index.plan, index.receipts)
    check_none_lost(index, dead)
    if not np.array_equal(generations.dead_rows(layout, generation), dead):
        raise StoreError(
            f"{where} leaves out {meta.dead:,} rows, those of units and deletions are {len(dead):,} others: "
            "run the same 'run' command"
        )
    built = generations.open_index(layout, generation, mapped=True)
    expected = generations.expected_ids(layout, generation, index.receipts)
    if meta.vectors != len(expected) or not np.array_equal(built.ids(), expected):
        raise StoreError(
            f"{where} holds {meta.vectors:,} vectors whose ids are not those of the units' "
            f"{len(expected):,}: {_REPAIR}"
        )
    gone = f", {len(dead):,} dead rows" if len(dead) else ""
    return f"{where}, {meta.key}: {built.count:,} vectors, the ids of the units{gone}"
