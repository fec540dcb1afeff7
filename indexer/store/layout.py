"""Where everything of an index lies; writer and readers share this class."""

import re
from dataclasses import dataclass
from pathlib import Path

from indexer.errors import StoreError

FIRST_EDITION = 1
_CURRENT = re.compile(r"(?:editions/(?P<edition>\d{6})/)?faiss/(?P<generation>\d{6})\n?")


@dataclass(frozen=True)
class Layout:
    """The files of one edition of the index under `root`.

    The first edition lies in the root itself. An index of another model that is built beside it is a further
    edition, in a folder of its own; locks and `CURRENT` are in the root, for all of them.
    """

    root: Path
    edition: int = FIRST_EDITION

    @classmethod
    def in_use(cls, root: Path) -> "Layout":
        """Returns the edition that searches use, the first where none was finished; raises StoreError."""
        found = cls(root).pointed()
        return cls(root, found[0]) if found is not None else cls(root)

    def pointed(self) -> tuple[int, str] | None:
        """Returns edition and generation that `CURRENT` names, None without one; raises StoreError."""
        try:
            text = self.current.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise StoreError(f"cannot read {self.current} ({error}); {_MEND}") from error
        found = _CURRENT.fullmatch(text)
        if found is None:
            raise StoreError(
                f"{self.current} says '{text.strip()[:80]}', wanted the path of a generation such as "
                f"'faiss/000001'; {_MEND}"
            )
        return int(found["edition"] or FIRST_EDITION), found["generation"]

    def pointer(self, generation: str) -> str:
        """Returns what `CURRENT` says when a generation of this edition is in use."""
        return f"{(self.generations / generation).relative_to(self.root).as_posix()}\n"

    @property
    def base(self) -> Path:
        """Folder of the edition."""
        return self.root if self.edition == FIRST_EDITION else self.editions / f"{self.edition:06d}"

    @property
    def editions(self) -> Path:
        """Folder of all editions but the first."""
        return self.root / "editions"

    @property
    def lock(self) -> Path:
        """Locked by whoever works on the index; no part of it."""
        return self.root / ".lock"

    @property
    def holders(self) -> Path:
        """Folder with a file for each process that holds the lock; no part of the index."""
        return self.root / ".holders"

    @property
    def claims(self) -> Path:
        """Byte N is locked by the process that embeds unit N; no part of the index."""
        return self.root / f".claims{self.edition if self.edition > FIRST_EDITION else ''}"

    @property
    def current(self) -> Path:
        """Pointer to the generation that searches use; swapped last."""
        return self.root / "CURRENT"

    @property
    def plan(self) -> Path:
        """What the edition holds at first; written once."""
        return self.base / "plan.json"

    @property
    def additions(self) -> Path:
        """Folder of what was added to the plan."""
        return self.base / "additions"

    @property
    def deletions(self) -> Path:
        """Folder of document ids that were deleted."""
        return self.base / "deletions"

    @property
    def units(self) -> Path:
        """Folder of vectors and receipts."""
        return self.base / "units"

    @property
    def rejects(self) -> Path:
        """Folder of rows that have no vector, with the reason."""
        return self.base / "rejects"

    @property
    def generations(self) -> Path:
        """Folder of FAISS indexes, each a product of the units."""
        return self.base / "faiss"

    def addition(self, number: int) -> Path:
        """What was added to the plan; numbers count from 1."""
        return self.additions / f"{number:06d}.json"

    def deletion(self, number: int) -> Path:
        """Document ids of a deletion; numbers count from 1."""
        return self.deletions / f"{number:06d}.parquet"

    def unit(self, number: int, revision: int = 0) -> Path:
        """Vectors of a unit; each time that it is rewritten it gets another name."""
        return self.units / (f"{number:06d}.r{revision}.parquet" if revision else f"{number:06d}.parquet")

    def receipt(self, number: int) -> Path:
        """The commit of a unit: a unit without it does not count."""
        return self.units / f"{number:06d}.receipt.json"

    def unit_rejects(self, number: int) -> Path:
        """Rejected rows of a unit; absent when there are none."""
        return self.rejects / f"{number:06d}.parquet"

    def meta(self, generation: str) -> Path:
        """What a FAISS index was built from and how to search it."""
        return self.generations / generation / "meta.json"


_MEND = "delete it, and 'run' builds the FAISS index again from the units"
