"""Shows how far a stage is: a bar on a terminal, a plain line every few seconds elsewhere. On stderr."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

_LINE_SECONDS = 5.0  # between plain lines
_LOOK_SECONDS = 1.0  # between calls of an observer


def say(console: Console, line: str) -> None:
    """Shows a line for people, whole and as it is."""
    console.print(line, markup=False, highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class Reached:
    """How far a stage is.

    Attributes:
        name: What is done.
        done: How much of it, what was done before included.
        total: How much there is to do.
        per_second: Done in a second, on average since the stage began.
        seconds_left: What is left at that rate; None before anything was done.
    """

    name: str
    done: int
    total: int
    per_second: float
    seconds_left: float | None


Observer = Callable[[Reached], None]


class Progress(Protocol):
    """Is told how far work is."""

    def advance(self, count: int) -> None:
        """Notes that `count` more are done."""
        ...

    def log(self, line: str) -> None:
        """Shows a line for people."""
        ...


class Stage:
    """One stage of work, a context manager.

    Args:
        console: Where to show it.
        name: What is done, for people.
        total: How much there is to do in all.
        done: How much was done before; it does not count for the rate.
        noun: What is counted, in the plural.
        observer: Told how far it is, at most once a second, and at its end.
    """

    def __init__(
        self,
        console: Console,
        name: str,
        total: int,
        *,
        done: int = 0,
        noun: str = "documents",
        observer: Observer | None = None,
    ) -> None:
        self._observer, self._last_look = observer, 0.0
        self._console, self._name, self._total, self._noun = console, name, total, noun
        self._before = self._done = done
        self._start = self._last_line = time.monotonic()
        self._bar: Bar | None = None
        self._task = TaskID(0)

    def __enter__(self) -> "Stage":
        if self._console.is_terminal:
            self._bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
                console=self._console,
                transient=True,
            )
            self._task = self._bar.add_task(self._name, total=self._total, completed=self._done, rate="")
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        self._tell(time.monotonic())

    def advance(self, count: int) -> None:
        """Notes that `count` more are done."""
        self._done += count
        now = time.monotonic()
        if now - self._last_look >= _LOOK_SECONDS:
            self._last_look = now
            self._tell(now)
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done, rate=f"{self._rate(now):.1f} {self._noun}/s")
        elif now - self._last_line >= _LINE_SECONDS:
            self._last_line = now
            self.log(self._line(now))

    def log(self, line: str) -> None:
        """Shows a line for people, above the bar if there is one."""
        say(self._console, line)

    def _tell(self, now: float) -> None:
        if self._observer is not None:
            rate = self._rate(now)
            left = (self._total - self._done) / rate if rate else None
            self._observer(Reached(self._name, self._done, self._total, rate, left))

    def _rate(self, now: float) -> float:
        return (self._done - self._before) / max(1e-9, now - self._start)

    def _line(self, now: float) -> str:
        rate = self._rate(now)
        left = f", {(self._total - self._done) / rate:,.0f} s left" if rate else ""
        return f"{self._name} {self._done:,}/{self._total:,} {self._noun}, {rate:.1f} {self._noun}/s{left}"
