"""What asks to stop: signals, or another thread of the process."""

import asyncio
import signal
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial

from indexer.errors import StoppedError

# Makes a block of a task that StoppedError ends, where it waits, once somebody asks for it.
Stopping = Callable[[], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def stoppable() -> AsyncIterator[None]:
    """Turns SIGINT and SIGTERM into StoppedError. For the main thread alone: no other may handle signals."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    came: list[int] = []

    def stop(number: int) -> None:
        came.append(number)
        if task is not None:
            task.cancel()

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        loop.add_signal_handler(number, stop, number)
    try:
        yield
    except asyncio.CancelledError as error:
        if came:
            raise StoppedError(came[0]) from error
        raise
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)


class OnRequest:
    """Stops what another thread embeds. Guarantees: a request ends all blocks, later ones too."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked = False
        self._cancel: Callable[[], object] | None = None

    def stop(self) -> None:
        """Asks to stop, from any thread."""
        with self._lock:
            self._asked = True
            if self._cancel is not None:
                self._cancel()

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[None]:
        """Turns a request into StoppedError."""
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine runs in one
        with self._lock:
            if self._asked:
                raise StoppedError(signal.SIGTERM)
            self._cancel = partial(loop.call_soon_threadsafe, task.cancel)
        try:
            yield
        except asyncio.CancelledError as error:
            if self._asked:
                raise StoppedError(signal.SIGTERM) from error
            raise
        finally:
            with self._lock:
                self._cancel = None
