"""What the outside asks: to stop, by SIGTERM, SIGINT or the end of stdin; to read files again, by SIGHUP.

Handlers only set an event; tasks act. Assumes one event loop.
"""

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any


def stop_event(on_stdin_close: bool) -> asyncio.Event:
    """Returns an event that is set when the process is to stop."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if on_stdin_close:
        threading.Thread(target=_wait_for_stdin, args=(loop, stop), daemon=True).start()
    return stop


async def on_hangup(act: Callable[[], Awaitable[None]]) -> None:
    """Acts on each SIGHUP; one that comes meanwhile is acted on once more."""
    hangup = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hangup.set)
    while True:
        await hangup.wait()
        hangup.clear()
        await act()


async def first(work: Coroutine[Any, Any, None], stop: Coroutine[Any, Any, object]) -> bool:
    """Runs work until it ends or `stop` does; returns whether it was stopped."""
    tasks: list[asyncio.Task[Any]] = [asyncio.create_task(work), asyncio.create_task(stop)]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if tasks[0].done():
            tasks[0].result()
            return False
        return True
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _wait_for_stdin(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    with contextlib.suppress(OSError):  # a closed descriptor is an end too
        while os.read(0, 4096):
            pass
    with contextlib.suppress(RuntimeError):  # the loop has ended already
        loop.call_soon_threadsafe(stop.set)
