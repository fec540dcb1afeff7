"""What units are of, and what became of them. Pure; all of it travels between processes."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from indexer.config import RunConfig
from indexer.plan import Plan
from indexer.store.layout import Layout
from indexer.store.ledger import Receipt


@dataclass(frozen=True)
class Work:
    """What units are of.

    Attributes:
        config: How documents flow.
        layout: Where the units lie.
        plan: The plan that they are of.
        committed: Receipts of the units that stand, by number.
        refused: Row ids of rows that are rejects whatever they hold, and why.
    """

    config: RunConfig
    layout: Layout
    plan: Plan
    committed: Mapping[int, Receipt] = field(default_factory=dict)
    refused: Mapping[int, str] = field(default_factory=dict)

    def with_committed(self, found: Mapping[int, Receipt]) -> "Work":
        """Returns this work with further units that stand."""
        return replace(self, committed={**self.committed, **found})


@dataclass(frozen=True)
class Commit:
    """A unit that was committed.

    Attributes:
        receipt: Of the unit.
        reused: Documents whose vectors, or whose refusal, were copied from another with the same text.
        text_bytes: Bytes of text that were sent to the pools.
    """

    receipt: Receipt
    reused: int
    text_bytes: int


@dataclass(frozen=True)
class Embedded:
    """What was embedded.

    Attributes:
        commits: In the order in which they were made.
    """

    commits: tuple[Commit, ...] = ()

    def __add__(self, more: "Embedded") -> "Embedded":
        """Returns both."""
        return Embedded(self.commits + more.commits)

    @property
    def receipts(self) -> dict[int, Receipt]:
        """Receipts by number of the unit."""
        return {commit.receipt.unit.number: commit.receipt for commit in self.commits}

    @property
    def documents(self) -> int:
        """Documents that have a vector."""
        return sum(commit.receipt.documents for commit in self.commits)

    @property
    def reused(self) -> int:
        """Documents whose vectors, or whose refusal, were copied."""
        return sum(commit.reused for commit in self.commits)

    @property
    def text_bytes(self) -> int:
        """Bytes of text that were sent to the pools."""
        return sum(commit.text_bytes for commit in self.commits)
