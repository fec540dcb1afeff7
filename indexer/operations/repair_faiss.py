"""Mends the FAISS index of an index: it is a product of the units, and can be made again from them.

A generation that was built in one go gets the very bytes that it had. What only its `meta.json` tells, the
key and the search setting, is noted down before anything is deleted: a repair that is killed loses neither.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from indexer.config import AUTO, Wishes
from indexer.errors import BuildError, StoreError
from indexer.index import generations
from indexer.index.generations import Generation
from indexer.index.meta import Meta
from indexer.operations.check_faiss import check_faiss, check_generation
from indexer.operations.leftovers import clear
from indexer.operations.standing import Standing, renew, vectors_of
from indexer.store.durable import remove, write_durable
from indexer.store.layout import Layout
from indexer.store.liveness import dead_rows

NOTE = "repair.json"  # below `faiss/`: the `meta.json` of the generation that is made again
_DAMAGE = (StoreError, BuildError, OSError)


def mend_faiss(index: Standing, missing: int, asked_key: str, console: Console) -> tuple[str, str]:
    """Returns what was done to the FAISS index, in words, and why; "" where it is whole.

    Args:
        index: Its sound units.
        missing: How many of the plan's units are not among them: then `run` builds, and not this.
        asked_key: Key to build with where no file tells it; "" for `auto`.
        console: Where to show how far it is.

    Raises:
        BuildError: FAISS refused the key or the vectors.
        StoreError: The file system refused a write.
    """
    layout, old = index.layout, _old(index.layout)
    if not old and not layout.current.exists() and not any(layout.generations.glob("*/*")):
        return "left to run", "there is none yet"
    reason = _damage(index, missing)
    if reason and missing:
        remove(layout.current)
        return "left to run", reason
    done = "whole"
    if reason:
        dead = dead_rows(layout, index.plan, index.receipts)
        done = "found again" if _find(index, dead, old) else _build(index, dead, old, asked_key, console)
    _restore_setting(layout, old)
    return done, reason


def in_use(layout: Layout) -> Generation | None:
    """Returns the generation in use, None where there is none or it cannot be read."""
    try:
        return generations.current(layout)
    except StoreError:
        return None


def _damage(index: Standing, missing: int) -> str:
    """Returns what is wrong with the generation in use; "" for nothing."""
    try:
        if not missing:
            check_faiss(index)
        elif (generation := generations.current(index.layout)) is not None:
            check_generation(index.layout, generation)
    except _DAMAGE as error:
        return str(error)
    return ""


def _old(layout: Layout) -> list[Generation]:
    """Returns what was noted by a repair that was killed, and generations whose `meta.json` is whole.

    The note comes first, then the latest generation.
    """
    found = []
    metas = sorted(layout.generations.glob("*/meta.json"), reverse=True)
    for path in [layout.generations / NOTE, *metas]:
        try:
            meta = Meta.from_json(path.read_text(encoding="utf-8"))
        except (OSError, KeyError, TypeError, ValueError):  # damaged or not there: the next one tells more
            continue
        found.append(Generation("" if path.name == NOTE else path.parent.name, meta))
    return found


def _find(index: Standing, dead: NDArray[np.int64], old: Sequence[Generation]) -> bool:
    """Points `CURRENT` to a whole generation of just these units, if there is one."""
    layout = index.layout
    for generation in old:
        if generation.name and generations.holds(generation, index.receipts, dead):
            try:
                check_generation(layout, generation)
                write_durable(layout.current, layout.pointer(generation.name).encode())
                check_faiss(index)
            except _DAMAGE:
                continue
            return True
    return False


def _build(
    index: Standing, dead: NDArray[np.int64], old: Sequence[Generation], asked_key: str, console: Console
) -> str:
    """Builds the FAISS index anew, by the key of before where a file tells it; returns what was done."""
    layout = index.layout
    count, dim = vectors_of(index.receipts), index.plan.model.dim
    key = asked_key or (old[0].meta.key if old else AUTO)
    key = generations.choose(None, count, dim, key, Wishes()).key
    if old:
        write_durable(layout.generations / NOTE, old[0].meta.to_json().encode())
    remove(layout.current)
    clear(layout, sorted(_files(layout.generations) - {layout.generations / NOTE}))
    renew(index, dead, key, console, full=True)
    guessed = "" if old or asked_key else f" as {key}, for no file tells the key of before (--index-key)"
    return f"built again{guessed}"


def _files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


def _restore_setting(layout: Layout, old: Sequence[Generation]) -> None:
    """Gives a generation that was built again the search setting of before, and drops the note of it."""
    generation = generations.current(layout)
    if generation is not None and old and old[0].meta.key == generation.meta.key:
        meta = replace(generation.meta, search=old[0].meta.search, tuning=old[0].meta.tuning)
        if meta != generation.meta:
            write_durable(layout.meta(generation.name), meta.to_json().encode())
    remove(layout.generations / NOTE)
