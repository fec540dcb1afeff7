"""What `meta.json` of a generation says: what its shards were built from and how to search them."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from indexer.index.shards import Shard
from indexer.index.tuning import Tuning
from indexer.sealed import check_seal, sealed_json

SCHEMA_VERSION = 2


@dataclass(frozen=True)
class Template:
    """An index that has learned and holds nothing: all shards are filled copies of it.

    Attributes:
        file: Below `faiss/`.
        sha256: Of the file, hex.
        bytes: Size of it.
    """

    file: str
    sha256: str
    bytes: int


@dataclass(frozen=True)
class Meta:
    """What a FAISS index was built from and how to search it; `meta.json` is this class as JSON.

    Attributes:
        key: FAISS factory string.
        planned: Vectors that there were when everything was last built anew, for which the key was chosen.
        dim: Length of a vector.
        fingerprint: Model that made the vectors.
        source: Names the units that it was built from.
        end: One past the highest row id that a vector may have.
        shards: Its parts, in the order of units.
        template: What the shards have learned; None for kinds that learn nothing.
        dead: Row ids in `dead.npy`: what searches do not return.
        dead_sha256: Of `dead.npy`, hex.
        search: Search parameters by FAISS's names, that searches use.
        tuning: How they were chosen by measurement; None for the defaults of `index_rule`.
        schema_version: Version of this layout.
    """

    key: str
    planned: int
    dim: int
    fingerprint: str
    source: str
    end: int
    shards: tuple[Shard, ...]
    template: Template | None
    dead: int
    dead_sha256: str
    search: Mapping[str, int]
    tuning: Tuning | None = None
    schema_version: int = SCHEMA_VERSION

    @property
    def vectors(self) -> int:
        """Vectors in the files, dead ones among them."""
        return sum(shard.vectors for shard in self.shards)

    @property
    def count(self) -> int:
        """Vectors that searches can find."""
        return self.vectors - sum(shard.dead for shard in self.shards)

    @property
    def bytes(self) -> int:
        """Size of all files."""
        return sum(shard.bytes for shard in self.shards)

    def to_json(self) -> str:
        """Returns the text of `meta.json`."""
        return sealed_json(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Meta":
        """Reads the text of `meta.json`; raises TypeError or ValueError for another."""
        raw: dict[str, Any] = json.loads(text)
        if (found := raw.get("schema_version")) != SCHEMA_VERSION:
            raise ValueError(f"schema version {found}, this release reads {SCHEMA_VERSION}")
        raw = check_seal(raw)
        parts: dict[str, Any] = {"shards": tuple(Shard(**shard) for shard in raw["shards"])}
        for name, kind in (("template", Template), ("tuning", Tuning)):
            parts[name] = None if raw[name] is None else kind(**raw[name])
        return cls(**{**raw, **parts})
