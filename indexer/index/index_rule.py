"""Which FAISS index suits how many vectors, and how to train and search it. Pure.

Memory is counted by formula and is a hard limit. How many of the true neighbours a kind can find, and in
what time, is only estimated here, from what was measured on real vectors, to choose a kind; what holds is
what `tuning` measures on the index that was built.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from indexer.config import AUTO, Wishes
from indexer.errors import BuildError, ConfigError
from indexer.index.memory_rule import Kind, Shape, as_size

FLAT_LIMIT = 10_000  # vectors up to which exact search is quick anyway (some ms on one core)
# Size of a training sample. With 100 in place of 64, 1,265 lists of 100,000 synthetic vectors find .961 in
# place of .959 (192 lists searched), and take half as long again to learn.
POINTS_PER_CENTROID = 64
LEAST_POINTS_PER_CENTROID = 39  # fewer make poor centroids, and FAISS warns
LEAST_OF_CODEBOOKS = LEAST_POINTS_PER_CENTROID * 256  # vectors that a product quantizer learns from
_CODEBOOK_SAMPLE = 65_536  # vectors; enough for 256 entries in every subspace, arbitrary beyond that
SEED = 20_000  # of the training sample; arbitrary
# Lists searched by default, per root of all lists: the share falls as indexes grow. Measured with 300 claims
# of SciFact against 14,979 questions of MedQuAD (384 lists): recall@10 is .76 with 16 lists, .90 with 50,
# .95 with 100, at 0.1, 0.3 and 0.4 ms a query. So twice the lists halve what is missed.
_PROBES_PER_ROOT = 5
_MISSED_BY_DEFAULT = 0.05
# Twice the vectors in as many lists take a search 1.4 times as long as in the lists that they would get, and
# four times 2; a whole build costs more than that is worth. Arbitrary beyond that.
_GROWTH = 4
_HITS = 10  # of a query, by estimate
_REFINED = 16  # candidates for each hit that are compared by better codes
# Lists for each root of N vectors. Short codes are scanned so quickly that finding the lists counts as much:
# of 1,000,000 synthetic vectors 2,000 lists find .960 at 516 queries/s on one core and are made in 35 s,
# 4,000 lists find .952 at 467 and are made in 112 s.
_LISTS_PER_ROOT, _FAST_LISTS_PER_ROOT = 4, 2
_EF_SEARCH = 64  # of HNSW: candidates kept; FAISS's own default of 16 loses recall beyond ten hits
# Share of the true ten neighbours that a kind finds when it looks everywhere: its codes are what limits it.
# Measured as above, all lists searched; `tuning` measures it for the index at hand.
_CEILING = {
    Kind.FLAT: 1.0,
    Kind.HNSW: 0.995,
    Kind.FAST_FLAT: 0.995,  # of 100,000 synthetic vectors, 16 or more candidates compared for each hit
    Kind.FAST_SQ8: 0.985,
    Kind.IVF_FLAT: 1.0,
    Kind.IVF_SQ8: 0.99,
    Kind.IVF_SQ4: 0.91,
    Kind.IVF_PQ: 0.77,  # a quarter of a byte for each value; fewer bytes find less
}
# Values for each half byte of FastScan's codes. Of 100,000 synthetic vectors 192 of 1,265 lists find .954
# with 2 values and 8 candidates for each hit, in 0.41 ms; with 3 values 16 candidates find .953 as quickly,
# with 4 values 32 find .945. IVF-Flat finds .965 in 1.96 ms, IVF-SQ8 .956 in 1.26 ms, HNSW32 .967 in 1.41 ms.
_VALUES_PER_FAST_CODE = 2
# Codes of IVF-PQ in values for each byte, longest code first. Half a byte a value is IVF-SQ4: it found as
# much as PQ of that size (.91) and learns nothing. OPQ trains ten times as long; give it as a key of its own.
_VALUES_PER_BYTE = (4, 8, 16)
_SCAN_BYTES_PER_MS = 8e6  # read from memory in order by one core: 8 GB/s, a cautious server
_JUMP_BYTES_PER_MS = 4e6  # read in no order, as graphs do; half of that, arbitrary
# A graph of 50,000 synthetic vectors with the spectrum of real ones (`tests/bench/index_scale.py`) needs 128
# candidates for .95, and 1.2 ms: some 24 vectors compared for each. Both grow with log N where N does.
_EF_BY_ESTIMATE, _VISITS_PER_EF, _VISITS_AT = 128, 24, 50_000


@dataclass(frozen=True)
class KeyChoice:
    """A factory string and why it was taken."""

    key: str
    reason: str


def choose_key(asked: str, count: int, dim: int, wishes: Wishes) -> KeyChoice:
    """Returns the factory string for `count` vectors of `dim` values.

    Any key but `auto` is taken as it is. `auto` without wishes is exact up to `FLAT_LIMIT`; above, lists of
    short codes that are scanned in registers, whose best are compared by the vectors themselves. Of the kinds
    that fit into the memory it takes the largest one that is expected to meet the other wishes; if none is,
    the quickest that should find enough, or else the one that should find most.

    Raises:
        ConfigError: No kind fits into the memory; the message names the least memory and a kind for it.
    """
    if asked != AUTO:
        return KeyChoice(asked, f"index {asked} for {count:,} vectors, as asked")
    shapes = list(candidates(count, dim, wishes))
    allowed = math.inf if wishes.memory_bytes is None else wishes.memory_bytes
    fitting = [shape for shape in shapes if shape.bytes(count, dim) <= allowed]
    if not fitting:
        least = min(shapes, key=lambda shape: shape.bytes(count, dim))
        need = least.bytes(count, dim)
        raise ConfigError(
            f"{count:,} vectors of {dim} values do not fit into {as_size(allowed)}: the least is "
            f"{as_size(need)} ({least.key}); give --max-index-memory-usage {need} or more"
        )
    chosen = _best(fitting, count, dim, wishes)
    return KeyChoice(chosen.key, _reason(chosen, shapes, count, dim, wishes))


def keep_or_choose(key: str, planned: int, asked: str, count: int, dim: int, wishes: Wishes) -> KeyChoice:
    """Returns the key of a standing index for as long as it suits, else what `choose_key` takes.

    An index that grows keeps its key until it is `_GROWTH` times as large as that was chosen for: to choose
    anew is to build anew. So does one that shrinks.

    Args:
        key: Of the standing index.
        planned: Vectors for which it was chosen.
        asked: A factory string, or `auto`.
        count: Vectors now.
        dim: Length of a vector.
        wishes: What is asked of it now.
    """
    choice = choose_key(asked, count, dim, wishes)
    if asked != AUTO or choice.key == key or not planned / _GROWTH <= count <= planned * _GROWTH:
        return choice
    shape = next((shape for shape in candidates(planned, dim, wishes) if shape.key == key), None)
    if shape is None or key != choose_key(asked, planned, dim, wishes).key:
        return choice  # the wishes are others
    if wishes.memory_bytes is not None and shape.bytes(count, dim) > wishes.memory_bytes:
        return choice
    return KeyChoice(key, f"index {key} for {count:,} vectors, as it was chosen for {planned:,}")


def candidates(count: int, dim: int, wishes: Wishes) -> Iterator[Shape]:
    """Yields the kinds that make sense for so many vectors; memory is not looked at.

    Exact search where it is quick, or not slower than lists that must nearly all be searched. A graph only
    where time is limited too much for lists: it takes the most memory, and is built by one thread.
    """
    lists = list_count(count)
    flat, inverted = Shape(Kind.FLAT), Shape(Kind.IVF_FLAT, lists)
    shapes = [inverted, Shape(Kind.IVF_SQ8, lists), Shape(Kind.IVF_SQ4, lists)]
    quick = inverted
    if halves := _divisor(dim // 2, dim // 2 // _VALUES_PER_FAST_CODE) if dim % 4 == 0 else 0:
        fewer = list_count(count, _FAST_LISTS_PER_ROOT)
        quick = Shape(Kind.FAST_FLAT, fewer, halves)
        shapes = [quick, Shape(Kind.FAST_SQ8, fewer, halves), *shapes]
    if count >= LEAST_OF_CODEBOOKS:
        sizes = [_divisor(dim, dim // values) for values in _VALUES_PER_BYTE]
        shapes += [Shape(Kind.IVF_PQ, lists, size) for size in dict.fromkeys(sizes)]
    if expected_ceiling(quick, dim) < (wishes.target_recall or 0):
        quick = inverted
    listed_ms = query_ms(quick, count, dim, wishes)
    if count <= FLAT_LIMIT or query_ms(flat, count, dim, wishes) <= listed_ms:
        yield flat
        # What is neither exact nor smaller has no point: codes of few vectors take more than they save.
        yield from (shape for shape in shapes if shape.bytes(count, dim) < flat.bytes(count, dim))
        return
    if wishes.max_query_ms is not None and listed_ms > wishes.max_query_ms:
        yield Shape(Kind.HNSW)
    yield from shapes


def _best(fitting: list[Shape], count: int, dim: int, wishes: Wishes) -> Shape:
    """Returns the largest that should meet all wishes, else the quickest that finds enough, else the best."""
    limit = math.inf if wishes.max_query_ms is None else wishes.max_query_ms
    target = wishes.target_recall or 1 - _MISSED_BY_DEFAULT
    times = {shape: query_ms(shape, count, dim, wishes) for shape in fitting}
    enough = [shape for shape in fitting if expected_ceiling(shape, dim) >= target]
    good = [shape for shape in enough if times[shape] <= limit]
    if good:
        return max(good, key=lambda shape: shape.bytes(count, dim))
    if enough:
        return min(enough, key=lambda shape: times[shape])
    return max(fitting, key=lambda shape: (expected_ceiling(shape, dim), -times[shape]))


def _reason(chosen: Shape, shapes: list[Shape], count: int, dim: int, wishes: Wishes) -> str:
    """Returns one line: what was taken, what it takes, and why nothing larger or simpler."""
    size = as_size(chosen.bytes(count, dim))
    said = f"index {chosen.key} for {count:,} vectors of {dim} values: {size} in memory"
    if wishes.memory_bytes is not None:
        said += f" of {as_size(wishes.memory_bytes)} allowed"
        larger = [shape for shape in shapes if shape.bytes(count, dim) > wishes.memory_bytes]
        if larger:
            nearest = min(larger, key=lambda shape: shape.bytes(count, dim))
            said += f" ({nearest.kind} needs {as_size(nearest.bytes(count, dim))})"
    if chosen.kind is Kind.FLAT:
        return f"{said}; exact search" + (f", up to {FLAT_LIMIT:,} vectors" if count <= FLAT_LIMIT else "")
    if chosen.kind is Kind.HNSW:
        return f"{said}; a graph, because lists would take longer than {wishes.max_query_ms:g} ms a query"
    default = probes(chosen.lists)
    per_root = _FAST_LISTS_PER_ROOT if chosen.refined else _LISTS_PER_ROOT
    few = chosen.lists < round(per_root * math.sqrt(count))
    lists = f"{chosen.lists:,} lists" if few else f"{per_root}√N lists"
    searched = "tuned when built" if wishes.tuned else f"{default:,} of them searched"
    return f"{said}; {lists}, {searched}"


def list_count(count: int, per_root: int = _LISTS_PER_ROOT) -> int:
    """Returns `per_root`·√N inverted lists, but no more than `LEAST_POINTS_PER_CENTROID` vectors are for."""
    return max(1, min(round(per_root * math.sqrt(count)), count // LEAST_POINTS_PER_CENTROID))


def expected_ceiling(shape: Shape, dim: int) -> float:
    """Returns the recall@10 that a shape is expected to reach when all of it is searched."""
    if shape.kind is not Kind.IVF_PQ:
        return _CEILING[shape.kind]
    # Half the bytes found three quarters as much: .77 with 96 bytes for 384 values, .58 with 48.
    return float(_CEILING[Kind.IVF_PQ] * (4 * shape.code_bytes / dim) ** 0.42)


def query_ms(shape: Shape, count: int, dim: int, wishes: Wishes) -> float:
    """Returns the milliseconds that one query is expected to take on one core, at the wished recall."""
    missed = 1 - min(wishes.target_recall or 1 - _MISSED_BY_DEFAULT, 0.9999)
    effort = _MISSED_BY_DEFAULT / missed
    if shape.kind is Kind.HNSW:
        growth = max(1.0, math.log(max(count, 2)) / math.log(_VISITS_AT))
        visits = min(effort * _EF_BY_ESTIMATE * _VISITS_PER_EF * growth, count)
        return visits * shape.vector_bytes(dim) / _JUMP_BYTES_PER_MS
    if shape.kind is Kind.FLAT:
        return count * shape.vector_bytes(dim) / _SCAN_BYTES_PER_MS
    share = min(1.0, effort * probes(shape.lists) / shape.lists)
    compared = _HITS * _REFINED * shape.better_bytes(dim) / _JUMP_BYTES_PER_MS
    return compared + (shape.lists * 4 * dim + share * count * shape.vector_bytes(dim)) / _SCAN_BYTES_PER_MS


def probes(lists: int) -> int:
    """Returns how many of an index's inverted lists a search visits by default."""
    return min(lists, round(_PROBES_PER_ROOT * math.sqrt(lists)))


def search_defaults(lists: int, graph: bool, refined: bool = False) -> dict[str, int]:
    """Returns FAISS's search parameters by name, for an index of so many inverted lists (0: none)."""
    defaults = {"nprobe": probes(lists)} if lists else {}
    if refined:
        defaults["k_factor_rf"] = _REFINED
    return {**defaults, "efSearch": _EF_SEARCH} if graph else defaults


def check_count(key: str, lists: int, count: int) -> None:
    """Raises BuildError when there are fewer vectors than inverted lists."""
    if count < lists:
        raise BuildError(
            f"index {key} needs at least {lists:,} vectors (better {LEAST_POINTS_PER_CENTROID * lists:,}), "
            f"there are {count:,}; use --index-key auto or fewer lists"
        )


def sample_size(lists: int, count: int, most: int | None = None) -> int:
    """Returns how many of `count` vectors an index learns from: enough for each list, and for codebooks.

    With `most` no more than that, but as many as lists and codebooks cannot do without.
    """
    wanted = max(_CODEBOOK_SAMPLE, POINTS_PER_CENTROID * lists)
    if most is not None:
        wanted = min(wanted, max(most, LEAST_OF_CODEBOOKS, LEAST_POINTS_PER_CENTROID * lists))
    return min(count, wanted)


def _divisor(dim: int, most: int) -> int:
    """Returns the largest divisor of `dim` that is at most `most`, 1 at least."""
    return next((size for size in range(max(most, 1), 1, -1) if dim % size == 0), 1)
