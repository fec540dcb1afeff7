"""The picture on a terminal, drawn anew as servers answer. The only file of the worker that uses rich.

Guarantees: the terminal is as it was before however this ends: a key, Ctrl-C, SIGTERM, an error.
"""

import os
import queue
import select
import signal
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from worker.errors import ConfigError, WorkerError
from worker.operation.dial import Dial
from worker.operation.top.asking import Asker
from worker.operation.top.figures import glyphs_of
from worker.operation.top.frame import Canvas, Line, Style, frame
from worker.operation.top.snapshot import Snapshot
from worker.operation.top.watched import Fleet, Watched

# q, Q, Ctrl-D; Ctrl-C is a signal. Escape is none: the keys of arrows begin with it.
_END_KEYS = frozenset(b"qQ\x04")
_COLOURS = {
    Style.PLAIN: "",
    Style.NAME: "bold cyan",
    Style.FAINT: "bright_black",
    Style.GOOD: "green",
    Style.BAD: "bold red",
}
_NO_CHARACTER = b"\x00"  # _POSIX_VDISABLE on Linux


def is_drawable() -> bool:
    """Returns whether stdout is a terminal that can be drawn on."""
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")


def watch(dials: tuple[Dial, ...], every: float) -> None:
    """Draws until a key, Ctrl-C or SIGTERM ends it.

    Raises:
        ConfigError: rich is not installed.
    """
    try:
        from rich.console import Console
        from rich.live import Live
    except ImportError as error:
        raise ConfigError(
            f"top draws with rich ({error}): pip install 'embedpool[top]', or use --once"
        ) from error
    console = Console()
    fleet = Fleet([Watched(dial.target) for dial in dials])
    answers: queue.SimpleQueue[tuple[str, Snapshot | WorkerError]] = queue.SimpleQueue()
    with suppress(KeyboardInterrupt), ExitStack() as restored:
        keyboard = restored.enter_context(_keys())
        bell = restored.enter_context(_bell())
        restored.enter_context(Asker(dials, every, lambda target, said: _post(answers, bell, target, said)))
        live = restored.enter_context(Live(console=console, screen=True, auto_refresh=False))
        _draw_until_ended(fleet, answers, keyboard, bell, every, live)


class _Bell:
    """Wakes a `select`: rung by threads and by signals."""

    def __init__(self) -> None:
        self.heard, self._rung = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def ring(self) -> None:
        try:
            os.write(self._rung, b"\x00")
        except BlockingIOError:
            return  # it rings already

    def hush(self) -> None:
        os.read(self.heard, 4096)

    def close(self) -> None:
        os.close(self.heard)
        os.close(self._rung)


def _post(answers: "queue.SimpleQueue[Any]", bell: _Bell, target: str, said: Snapshot | WorkerError) -> None:
    answers.put((target, said))
    bell.ring()


def _draw_until_ended(
    fleet: Fleet,
    answers: "queue.SimpleQueue[tuple[str, Snapshot | WorkerError]]",
    keyboard: int | None,
    bell: _Bell,
    every: float,
    live: Any,
) -> None:
    servers = {server.target: server for server in fleet.servers}
    glyphs = glyphs_of(live.console.encoding)
    listened = [bell.heard] if keyboard is None else [bell.heard, keyboard]
    next_tick = time.monotonic() + every
    while True:
        width, height = live.console.size
        canvas = Canvas(width, height, glyphs, every, "q ends" if keyboard is not None else "Ctrl-C ends")
        live.update(_text(frame(fleet, canvas)), refresh=True)
        ready, _, _ = select.select(listened, [], [], max(0.0, next_tick - time.monotonic()))
        if keyboard in ready:
            pressed = os.read(keyboard, 64) if keyboard is not None else b""
            if not pressed or _END_KEYS & set(pressed):
                return
        if bell.heard in ready:
            bell.hush()
        while not answers.empty():
            target, said = answers.get()
            if isinstance(said, Snapshot):
                servers[target].took(said)
            else:
                servers[target].lost(str(said))
        if time.monotonic() >= next_tick:
            fleet.tick()
            next_tick = time.monotonic() + every


def _text(lines: Sequence[Line]) -> Any:
    from rich.text import Text

    drawn = Text(no_wrap=True, overflow="crop", end="")
    for number, line in enumerate(lines):
        if number:
            drawn.append("\n")
        for span in line:
            drawn.append(span.text, _COLOURS[span.style])
    return drawn


@contextmanager
def _keys() -> Iterator[int | None]:
    """Has keys come one by one, unseen; gives where to read them, None where stdin is no terminal."""
    if not sys.stdin.isatty():
        yield None
        return
    keyboard = sys.stdin.fileno()
    before = termios.tcgetattr(keyboard)
    try:
        tty.setcbreak(keyboard)
        now = termios.tcgetattr(keyboard)
        now[6][termios.VSUSP] = _NO_CHARACTER  # stopped by Ctrl-Z it would leave the terminal as it is
        termios.tcsetattr(keyboard, termios.TCSANOW, now)
        yield keyboard
    finally:
        termios.tcsetattr(keyboard, termios.TCSANOW, before)


@contextmanager
def _bell() -> Iterator[_Bell]:
    """Gives a bell that also rings when the window changes; SIGTERM ends like Ctrl-C meanwhile."""
    bell = _Bell()
    with ExitStack() as restored:
        restored.callback(bell.close)
        _handle(restored, signal.SIGWINCH, lambda *_: bell.ring())
        _handle(restored, signal.SIGTERM, _interrupt)
        yield bell


def _handle(restored: ExitStack, number: signal.Signals, handler: Callable[..., None]) -> None:
    restored.callback(signal.signal, number, signal.signal(number, handler))


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
