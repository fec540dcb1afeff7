"""What is asked of a search, and what it finds. No I/O."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from indexer.errors import ConfigError


@dataclass(frozen=True)
class Ask:
    """What a search is to find.

    Attributes:
        k: Documents for each query.
        columns: Columns of the inputs that hits are to carry.
        filter: Only documents whose columns meet this are found; "" for all.
        passages: Tell which chunk of a document was nearest; nothing where the index holds no chunks.
    """

    k: int = 10
    columns: tuple[str, ...] = ()
    filter: str = ""
    passages: bool = False

    def __post_init__(self) -> None:
        """Checks the fields; raises ConfigError."""
        if self.k < 1:
            raise ConfigError(f"k is {self.k}, wanted at least 1")
        if not all(self.columns):
            raise ConfigError("a column has no name; name columns of the inputs")


@dataclass(frozen=True)
class Passage:
    """A part of a document's text: code points `start` up to `stop` of the text that was embedded."""

    start: int
    stop: int


@dataclass(frozen=True)
class Hit:
    """A document that was found.

    Attributes:
        rank: From 1.
        score: Inner product with the query.
        doc_id: Its id.
        columns: Values of the columns that were asked for, by name.
        passage: The chunk that was nearest; None unless it was asked for and the index holds chunks.
    """

    rank: int
    score: float
    doc_id: str
    columns: Mapping[str, object] = field(default_factory=dict)
    passage: Passage | None = None
