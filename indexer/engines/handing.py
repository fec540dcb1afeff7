"""Hands units to actors and takes what they tell. No processes, no clock."""

from collections.abc import Sequence

from indexer.embedding.work import Commit
from indexer.engines.allotment import Allotment
from indexer.engines.desk import News
from indexer.progress import Progress
from indexer.store.ledger import Receipt


class Handing:
    """The units of one `embed`, and what became of them.

    Args:
        units: Numbers of the units that are missing.
        open_units: Units that an actor reads or embeds at once.
        progress: Told how far all is.

    Attributes:
        commits: Units that actors of this run committed.
    """

    def __init__(self, units: Sequence[int], open_units: int, progress: Progress) -> None:
        # One beyond the open ones is being read, another is at hand.
        self._allotment = Allotment(units, open_units + 2)
        self._progress = progress
        self._told_others = False
        self.commits: list[Commit] = []

    @property
    def missing(self) -> int:
        """Units that are not committed."""
        return self._allotment.missing

    def offer(self, actor: int, actors: int) -> list[int]:
        """Returns the numbers of the units that an actor gets now, of `actors` that work."""
        return self._allotment.offer(actor, actors)

    def hear(self, actor: int, news: News, host: str) -> None:
        """Takes the news of an actor."""
        for commit in news.commits:
            self.commits.append(commit)
            self._count(commit.receipt)
        for receipt in news.found:
            self._count(receipt)
        for number in news.passed:
            self._allotment.passed(actor, number)
        for line in news.lines:
            self._progress.log(f"{host}: {line}")
        if self._allotment.elsewhere == self.missing > 0 and not self._told_others:
            self._told_others = True
            self._progress.log(f"{self.missing:,} units are embedded by others; waiting for them")

    def retry(self) -> None:
        """Notes that units of other processes may be free by now."""
        self._allotment.retry()

    def lost(self, actor: int) -> int:
        """Notes that an actor is gone; returns how many units it had."""
        return self._allotment.lost(actor)

    def log(self, line: str) -> None:
        """Shows a line for people."""
        self._progress.log(line)

    def _count(self, receipt: Receipt) -> None:
        if self._allotment.done(receipt.unit.number):
            self._progress.advance(receipt.unit.rows)
