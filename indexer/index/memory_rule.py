"""How many bytes an index takes in memory, by formula, and how sizes are written. Pure.

The formulas count what FAISS holds while it searches: codes, ids, centroids, codebooks, links. They were
compared with FAISS's own files, which hold the same (`tests/indexer/test_index_rule.py`: within 2 %). While
it is built, an index of inverted lists may take up to twice as much for a moment, because its lists grow by
doubling.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

from indexer.errors import ConfigError

_FLOAT = 4  # bytes of a float32, and of a link of a graph
_ID = 8  # bytes of an id, and of an offset
_LIST = 64  # bytes of an inverted list without entries: two vectors' heads and what malloc adds
_CODEBOOK = 256  # entries for each byte of a product-quantized code
_SMALL_CODEBOOK = 16  # entries for each half byte of a code that is scanned in registers
_BLOCK = 32  # codes that FAISS scans at once; a list's last block is filled up
LINKS = 32  # of a graph: neighbours of a vector (twice as many on the lowest level)

_UNITS = {"": 1, "b": 1, "k": 1e3, "kb": 1e3, "m": 1e6, "mb": 1e6, "g": 1e9, "gb": 1e9, "t": 1e12, "tb": 1e12}
_UNITS |= {"kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40}


class Kind(StrEnum):
    """The kinds of index that the rule knows; the value is what its reasons call them."""

    FLAT = "Flat"
    HNSW = "HNSW"
    FAST_FLAT = "IVF-FastScan-Flat"
    FAST_SQ8 = "IVF-FastScan-SQ8"
    IVF_FLAT = "IVF-Flat"
    IVF_SQ8 = "IVF-SQ8"
    IVF_SQ4 = "IVF-SQ4"
    IVF_PQ = "IVF-PQ"


@dataclass(frozen=True)
class Shape:
    """A kind of index with its numbers.

    Attributes:
        kind: What it is.
        lists: Inverted lists; 0 for kinds without.
        code_bytes: Bytes of a vector's code, of IVF-PQ (a divisor of the number of values) and of
            FastScan (twice as many divide it).
    """

    kind: Kind
    lists: int = 0
    code_bytes: int = 0

    @property
    def key(self) -> str:
        """FAISS's factory string."""
        match self.kind:
            case Kind.FLAT:
                return "IDMap,Flat"  # ids of rows have gaps where rows were rejected, so they are stored
            case Kind.HNSW:
                return f"HNSW{LINKS}"
            case Kind.IVF_PQ:
                # np: without the order of codes that polysemous search wants; making it takes most of the
                #     time.
                return f"IVF{self.lists},PQ{self.code_bytes}np"
            case Kind.FAST_FLAT | Kind.FAST_SQ8:
                better = "RFlat" if self.kind is Kind.FAST_FLAT else "Refine(SQ8)"
                return f"IVF{self.lists},PQ{2 * self.code_bytes}x4fs,{better}"
        return f"IVF{self.lists},{self.kind.removeprefix('IVF-')}"

    @property
    def refined(self) -> bool:
        """Whether the best by short codes are compared once more by better ones."""
        return self.kind in (Kind.FAST_FLAT, Kind.FAST_SQ8)

    def better_bytes(self, dim: int) -> int:
        """Returns the bytes of one vector's better code; 0 for kinds with one code."""
        return {Kind.FAST_FLAT: _FLOAT * dim, Kind.FAST_SQ8: dim}.get(self.kind, 0)

    def vector_bytes(self, dim: int) -> int:
        """Returns the bytes of one vector's code: what a search reads for each vector that it visits."""
        match self.kind:
            case Kind.IVF_SQ8:
                return dim
            case Kind.IVF_SQ4:
                return (dim + 1) // 2
            case Kind.IVF_PQ | Kind.FAST_FLAT | Kind.FAST_SQ8:
                return self.code_bytes
        return _FLOAT * dim

    def bytes(self, count: int, dim: int) -> int:
        """Returns the bytes of an index of `count` vectors of `dim` values."""
        total = count * (self.vector_bytes(dim) + _ID) + self.lists * (_FLOAT * dim + _LIST)
        match self.kind:
            case Kind.HNSW:
                # Level 0 has twice the links; a vector is on 1/(LINKS−1) higher levels in the mean
                # (Malkov and Yashunin 2016: levels fall off by 1/ln LINKS); one offset and one level each.
                links = 2 * LINKS + LINKS / (LINKS - 1)
                total += round(count * (_FLOAT * links + _ID + _FLOAT))
            case Kind.IVF_PQ:
                total += _CODEBOOK * _FLOAT * dim
            case Kind.FAST_FLAT | Kind.FAST_SQ8:
                # An id in the lists and one beside the better codes; half a block is empty in the mean.
                total += count * (self.better_bytes(dim) + _ID)
                total += self.lists * self.code_bytes * _BLOCK // 2 + _SMALL_CODEBOOK * _FLOAT * dim
                total += 2 * _FLOAT * dim
            case Kind.IVF_SQ8 | Kind.IVF_SQ4:
                total += 2 * _FLOAT * dim  # smallest value and width of each dimension
        return total


def shape_of(key: str) -> Shape | None:
    """Returns the shape that a factory string of `Shape.key` names; None for any other key."""
    lists = int(found[1]) if (found := re.match(r"IVF(\d+),", key)) else 0
    code = int(found[1]) if (found := re.search(r",PQ(\d+)", key)) else 0
    for kind in Kind:
        shape = Shape(kind, lists, code // 2 if kind in (Kind.FAST_FLAT, Kind.FAST_SQ8) else code)
        if shape.key == key:
            return shape
    return None


def parse_bytes(text: str) -> int:
    """Returns the bytes of a size such as `4GB`, `512MiB`, `1.5 g` or `1000000`.

    Raises:
        ConfigError: It is no size, or none above zero.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?|\.\d+)\s*([a-zA-Z]*)\s*", text)
    unit = _UNITS.get(found[2].lower()) if found else None
    if found is None or unit is None or float(found[1]) * unit < 1:
        raise ConfigError(f"'{text}' is no size; give bytes or a unit, for example 4GB, 512MiB or 1500000")
    return int(float(found[1]) * unit)


def as_size(count: float) -> str:
    """Returns bytes in the unit that reads best, with three digits: `1.54 GB`."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB" if count < 999.5 else f"{count:,.0f} TB"
