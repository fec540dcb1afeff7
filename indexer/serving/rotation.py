"""Files that somebody else replaces while the server runs: tokens, certificates.

Guarantees: any thread may ask; what was read from sound files is returned until others are: a file that is
broken, or half of a pair, changes nothing and is logged once.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from indexer.errors import ConfigError

_log = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0  # between two looks at the files; arbitrary, a look costs microseconds

Content = TypeVar("Content")


class Rotated(Generic[Content]):
    """The content of files that may be replaced.

    Args:
        paths: The files.
        read: Reads and checks them; raises ConfigError.

    Raises:
        ConfigError: They cannot be read now, or are unsound.
    """

    def __init__(self, paths: Sequence[Path], read: Callable[[], Content]) -> None:
        self._paths, self._read = tuple(paths), read
        self._lock = threading.Lock()
        self._looked = time.monotonic()
        self._stamps = self._now()
        self._content = read()

    def get(self) -> Content:
        """Returns the content, read again if the files changed a moment ago."""
        if time.monotonic() - self._looked >= _LOOK_SECONDS:
            with self._lock:
                self._looked = time.monotonic()
                self._look()
        return self._content

    def _look(self) -> None:
        stamps = self._now()
        if stamps == self._stamps:
            return
        try:
            content = self._read()
        except ConfigError as error:
            _log.error("rotation failed effect=%r why=%r", "the old content stays", str(error))
        else:
            if self._now() != stamps:
                return  # they changed under our hands: the next look reads them
            self._content = content
            _log.info("rotated files=%d", len(self._paths))
        self._stamps = stamps

    def _now(self) -> tuple[tuple[int, ...], ...]:
        return tuple(_stamp(path) for path in self._paths)


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        status = os.stat(path)  # noqa: PTH116 - follows links, by which Kubernetes rotates secrets
    except OSError:
        return ()
    return (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)
