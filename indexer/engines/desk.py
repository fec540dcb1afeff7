"""What comes to an actor and what goes: numbers of units, and news of them. Threads on both sides."""

import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from indexer.embedding.work import Commit
from indexer.store.ledger import Receipt


@dataclass(frozen=True)
class News:
    """What happened since the last news.

    Attributes:
        commits: Units that were committed here.
        found: Receipts of units that others had committed.
        passed: Numbers of units that another process has claimed.
        lines: For people.
    """

    commits: tuple[Commit, ...] = ()
    found: tuple[Receipt, ...] = ()
    passed: tuple[int, ...] = ()
    lines: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self.commits or self.found or self.passed or self.lines)


class Desk:
    """What the methods of an actor share.

    Guarantees: each unit is drawn once, each piece of news told once. Any thread may call any method.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._units: deque[int] = deque()
        self._ended = False
        self._news = News()

    def put(self, units: list[int], *, end: bool) -> None:
        """Takes units to draw, or that no more come."""
        with self._changed:
            self._units.extend(units)
            self._ended |= end
            self._changed.notify_all()

    def drawn(self) -> Iterator[int]:
        """Yields numbers of units; waits for them until the end is told."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._units or self._ended)
                if not self._units:
                    return
                number = self._units.popleft()
            yield number

    def drop(self) -> None:
        """Ends `drawn`, whatever is left."""
        with self._changed:
            self._units.clear()
            self._ended = True
            self._changed.notify_all()

    def tell(
        self, *, commit: Commit | None = None, found: Receipt | None = None, passed: int | None = None,
        line: str | None = None,
    ) -> None:  # fmt: skip
        """Takes something for the news."""
        with self._changed:
            old = self._news
            self._news = News(
                old.commits + ((commit,) if commit else ()),
                old.found + ((found,) if found else ()),
                old.passed + ((passed,) if passed is not None else ()),
                old.lines + ((line,) if line else ()),
            )
            self._changed.notify_all()

    def news(self, seconds: float) -> News:
        """Returns the news, once there is any or after so many seconds."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._news) or self._ended, seconds)
            news, self._news = self._news, News()
            return news

    def advance(self, count: int) -> None:
        """As `Progress`; documents count when their unit is committed."""

    def log(self, line: str) -> None:
        """As `Progress`."""
        self.tell(line=line)

    def write(self, text: str) -> None:
        """As a file that a console writes to."""
        if text.strip():
            self.tell(line=text.strip())

    def flush(self) -> None:
        """As a file."""
