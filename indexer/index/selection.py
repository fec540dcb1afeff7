"""Searches of a FAISS index among chosen ids alone. One adapter with `faiss_index`.

Kinds that take FAISS's selectors look at more lists or candidates where few ids are chosen, so that as many
of the chosen are seen; others are asked for ever more hits.
"""

import math
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

_VISITS_PER_EF = 24  # vectors that a graph compares for each candidate; as `index_rule` measured
_FIRST_FETCH = 4  # times the hits wanted that an index without selection is asked for at first; arbitrary
_faiss: Any = faiss  # its stubs leave out what its Python layer adds: keyword arguments, arrays


@dataclass(frozen=True)
class Chosen:
    """Which ids a search may return.

    Attributes:
        mask: bool `[n]`, by id; ids from `n` on are not chosen.
        bits: The same, eight ids in a byte, uint8 `[n / 8, rounded up]`, lowest id in the lowest bit.
        share: Part of the index's vectors that is chosen, 0 to 1; searches make up for what they pass over.
    """

    mask: NDArray[np.bool_]
    bits: NDArray[np.uint8]
    share: float

    @classmethod
    def of(cls, mask: NDArray[np.bool_], share: float) -> "Chosen":
        """Packs a mask."""
        return cls(mask, np.packbits(mask, bitorder="little"), share)


def takes_selection(index: Any) -> bool:
    """Returns whether an index's kind takes a selection; FAISS tells only when it is searched."""
    nobody = Chosen.of(np.zeros(8, dtype=np.bool_), 1.0)
    try:
        selected(index, np.zeros((1, index.d), dtype=np.float32), 1, nobody)
    except RuntimeError:
        return False
    return True


def selected(index: Any, queries: NDArray[np.float32], k: int, chosen: Chosen) -> Any:
    """Returns scores and ids `[queries, k]` of an index that takes a selection."""
    selector = _faiss.IDSelectorBitmap(chosen.bits)
    if not _is_scan_cheaper(index, chosen.share):
        return index.search(queries, k, params=_parameters(index, selector, chosen.share))
    # The few that are chosen are soon compared, where a graph would wander among the others.
    storage = faiss.downcast_index(inner(index).storage)
    selector = _faiss.IDSelectorTranslated(index.id_map, selector)
    scores, places = storage.search(queries, k, params=_faiss.SearchParameters(sel=selector))
    ids = faiss.rev_swig_ptr(index.id_map.data(), index.ntotal)
    return scores, np.where(places >= 0, ids[places], places)


def sifted(index: Any, queries: NDArray[np.float32], k: int, chosen: Chosen) -> Any:
    """Asks for ever more hits, until each query has `k` of the chosen or all vectors were seen."""
    fetched = min(index.ntotal, _FIRST_FETCH * k)
    while True:
        scores, ids = index.search(queries, max(1, fetched))
        inside = (ids >= 0) & (ids < len(chosen.mask))
        good = inside & chosen.mask[np.where(inside, ids, 0)]
        if fetched >= index.ntotal or good.sum(axis=1).min(initial=k) >= k:
            break
        fetched = min(index.ntotal, _FIRST_FETCH * fetched)
    order = np.argsort(~good, axis=1, kind="stable")[:, :k]
    good, scores, ids = (np.take_along_axis(array, order, 1) for array in (good, scores, ids))
    missing = ((0, 0), (0, k - scores.shape[1]))
    return (
        np.pad(np.where(good, scores, np.float32(-np.inf)), missing, constant_values=-np.inf),
        np.pad(np.where(good, ids, -1), missing, constant_values=-1),
    )


def _parameters(index: Any, selector: Any, share: float) -> Any:
    """Returns FAISS's parameters of one search among the selected, for what an index wraps.

    An id map translates selectors for what it wraps itself alone, so for deeper ones it is done here. Where
    few are selected, more lists or candidates are looked at, so that as many of the selected are.
    """
    index = faiss.downcast_index(index)
    match index:
        case faiss.IndexIDMap():
            return _parameters(index.index, _faiss.IDSelectorTranslated(index.id_map, selector), share)
        case faiss.IndexPreTransform():
            return _faiss.SearchParametersPreTransform(index_params=_parameters(index.index, selector, share))
        case faiss.IndexRefine():
            base = _parameters(index.base_index, selector, share)
            return _faiss.IndexRefineSearchParameters(k_factor=index.k_factor, base_index_params=base)
        case faiss.IndexIVF():
            probes = min(index.nlist, math.ceil(index.nprobe / max(share, 1 / index.nlist)))
            return _faiss.SearchParametersIVF(sel=selector, nprobe=probes)
        case faiss.IndexHNSW():
            candidates = min(max(1, index.ntotal), math.ceil(index.hnsw.efSearch / max(share, 1e-6)))
            return _faiss.SearchParametersHNSW(sel=selector, efSearch=candidates)
    return _faiss.SearchParameters(sel=selector)


def _is_scan_cheaper(index: Any, share: float) -> bool:
    """Returns whether comparing all selected vectors takes a graph less time than looking for them.

    A graph compares `_VISITS_PER_EF` vectors for each of `efSearch / share`
    candidates, a scan `share` of all.
    """
    graph: Any = faiss.downcast_index(index.index) if isinstance(index, faiss.IndexIDMap) else None
    if not hasattr(graph, "hnsw"):
        return False
    return bool(share * share * index.ntotal < _VISITS_PER_EF * graph.hnsw.efSearch)


def inner(index: Any) -> Any:
    """Returns what id maps, transforms and refinements wrap."""
    while isinstance(index, faiss.IndexIDMap | faiss.IndexPreTransform | faiss.IndexRefine):
        index = faiss.downcast_index(
            index.base_index if isinstance(index, faiss.IndexRefine) else index.index
        )
    return index


def refinement(index: Any) -> Any:
    """Returns the refinement in an index, None without one."""
    while isinstance(index, faiss.IndexIDMap | faiss.IndexPreTransform):
        index = faiss.downcast_index(index.index)
    return index if isinstance(index, faiss.IndexRefine) else None
