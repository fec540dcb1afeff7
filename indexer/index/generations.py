"""The FAISS indexes of an index folder: each is a product of the units; `CURRENT` names the one in use."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from indexer.config import Wishes
from indexer.errors import StoreError
from indexer.index import faiss_index, index_rule, tuning
from indexer.index.faiss_index import VectorIndex, Written
from indexer.index.tuning import Evaluation, Tuning
from indexer.plan import Plan
from indexer.store.durable import durable_stream, make_folder, write_durable
from indexer.store.layout import Layout
from indexer.store.ledger import Receipt, source_digest
from indexer.store.unit_file import read_unit

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Meta:
    """What a FAISS index was built from and how to search it; `meta.json` is this class as JSON.

    Attributes:
        key: FAISS factory string.
        count: Number of vectors.
        dim: Length of a vector.
        fingerprint: Model that made the vectors.
        source: Names the units that it was built from.
        sha256: Of the index file, hex.
        bytes: Size of it.
        search: Search parameters by FAISS's names, that searches use.
        tuning: How they were chosen by measurement; None for the defaults of `index_rule`.
        schema_version: Version of this layout.
    """

    key: str
    count: int
    dim: int
    fingerprint: str
    source: str
    sha256: str
    bytes: int
    search: Mapping[str, int]
    tuning: Tuning | None = None
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        """Takes `tuning` as JSON gives it, too."""
        if isinstance(self.tuning, dict):
            object.__setattr__(self, "tuning", Tuning(**self.tuning))

    def to_json(self) -> str:
        """Returns the text of `meta.json`."""
        return json.dumps(asdict(self), indent=1, sort_keys=True) + "\n"


@dataclass(frozen=True)
class Generation:
    """One FAISS index: its name, a number of six digits, and its description."""

    name: str
    meta: Meta


def current(layout: Layout) -> Generation | None:
    """Returns the generation in use, None before the first; raises StoreError when it is damaged."""
    try:
        name = layout.current.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None
    try:
        return Generation(
            f"{int(name):06d}", Meta(**json.loads(layout.meta(name).read_text(encoding="utf-8")))
        )
    except (OSError, TypeError, ValueError) as error:
        raise StoreError(
            f"CURRENT of {layout.root} says '{name}', and that cannot be read ({error}); "
            "delete CURRENT, and 'run' builds the FAISS index again from the units"
        ) from error


def is_fresh(
    generation: Generation | None,
    receipts: Sequence[Receipt],
    asked_key: str,
    wishes: Wishes,
) -> bool:
    """Returns whether a generation holds just these units under the key that is asked for."""
    if generation is None or generation.meta.source != source_digest(receipts):
        return False
    meta = generation.meta
    return meta.key == index_rule.choose_key(asked_key, meta.count, meta.dim, wishes).key


def build(
    layout: Layout,
    plan: Plan,
    receipts: Sequence[Receipt],
    key: str,
    advance: Callable[[int], None],
) -> Generation:
    """Builds the next generation from all units and makes it the one in use.

    Args:
        layout: Where the index lies.
        plan: Its plan.
        receipts: Of every unit, in order.
        key: FAISS factory string.
        advance: Told how many more vectors were added.

    Raises:
        BuildError: FAISS refused the key or the vectors.
        StoreError: A unit is damaged, or the file system refused a write.
    """
    before = current(layout)
    name = f"{int(before.name) + 1 if before else 1:06d}"
    count = sum(receipt.vectors for receipt in receipts)
    index = faiss_index.build(key, plan.model.dim, count, lambda: vector_pieces(layout, receipts), advance)
    search = index_rule.search_defaults(index.lists, index.graph)
    written = _write(layout.index(name), index, count)
    meta = Meta(
        key,
        count,
        plan.model.dim,
        plan.model.fingerprint,
        source_digest(receipts),
        written.sha256,
        written.bytes,
        search,
    )
    write_durable(layout.meta(name), meta.to_json().encode())
    write_durable(layout.current, f"{name}\n".encode())
    return Generation(name, meta)


def _write(path: Path, index: VectorIndex, count: int) -> Written:
    make_folder(path.parent)
    written: list[Written] = []

    def check(temporary: Path) -> None:
        # Mapped: to read it whole would take the memory of a second index.
        found, size = faiss_index.read_index(temporary, mapped=True).count, temporary.stat().st_size
        if (found, size) != (count, written[0].bytes):
            raise StoreError(
                f"{path} was written with {count} vectors in {written[0].bytes} bytes and read back with "
                f"{found} in {size}; run again"
            )

    with durable_stream(path, check) as stream:
        written.append(index.write(stream))
    return written[0]


def open_index(layout: Layout, generation: Generation, *, mapped: bool = False) -> VectorIndex:
    """Opens the FAISS index of a generation with its search setting; `mapped` as `read_index` has it.

    Raises:
        StoreError: It is damaged, gone, or of another size than its `meta.json` says.
        BuildError: It does not know a parameter of the setting.
    """
    path = layout.index(generation.name)
    # A page of a mapped file that is not there would end the process.
    if path.exists() and path.stat().st_size != generation.meta.bytes:
        raise StoreError(
            f"{path} has {path.stat().st_size:,} bytes, its meta.json says {generation.meta.bytes:,}; "
            "delete CURRENT, and 'run' builds it from the units"
        )
    index = faiss_index.read_index(path, mapped=mapped)
    index.configure(generation.meta.search)
    return index


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


def vector_pieces(
    layout: Layout, receipts: Sequence[Receipt]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.floating]]]:
    """Yields ids int64 `[n]` and vectors `[n, dim]` of each unit, in order.

    Raises:
        StoreError: A unit is damaged.
    """
    for receipt in receipts:
        if receipt.vectors:
            unit = receipt.unit
            stored = read_unit(layout.unit(unit.number), vectors=True)
            if len(stored.rows) != receipt.vectors:
                raise StoreError(
                    f"unit {layout.unit(unit.number)} holds {len(stored.rows)} vectors, its receipt says "
                    f"{receipt.vectors}; delete the receipt, and 'run' makes the unit again"
                )
            yield stored.rows - unit.start + unit.base, stored.vectors
