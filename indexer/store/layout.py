"""Where everything of an index lies; writer and readers share this class."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Layout:
    """The files of one index under `root`."""

    root: Path

    @property
    def plan(self) -> Path:
        """What the index holds; written once."""
        return self.root / "plan.json"

    @property
    def lock(self) -> Path:
        """Held by the one process that writes; holds its pid meanwhile, else nothing."""
        return self.root / ".lock"

    @property
    def units(self) -> Path:
        """Folder of vectors and receipts."""
        return self.root / "units"

    @property
    def rejects(self) -> Path:
        """Folder of rows that have no vector, with the reason."""
        return self.root / "rejects"

    @property
    def generations(self) -> Path:
        """Folder of FAISS indexes, each a product of the units."""
        return self.root / "faiss"

    @property
    def current(self) -> Path:
        """Pointer to the generation that searches use; swapped last."""
        return self.root / "CURRENT"

    def unit(self, number: int) -> Path:
        """Vectors of a unit."""
        return self.units / f"{number:06d}.parquet"

    def receipt(self, number: int) -> Path:
        """The commit of a unit: a unit without it does not count."""
        return self.units / f"{number:06d}.receipt.json"

    def unit_rejects(self, number: int) -> Path:
        """Rejected rows of a unit; absent when there are none."""
        return self.rejects / f"{number:06d}.parquet"

    def index(self, generation: str) -> Path:
        """A FAISS index."""
        return self.generations / generation / "index.faiss"

    def meta(self, generation: str) -> Path:
        """What a FAISS index was built from and how to search it."""
        return self.generations / generation / "meta.json"
