"""Files that somebody else replaces while the server runs: certificates, tokens.

Guarantees: what was read from whole, sound files is returned until others are; a file that is broken, or half
of a pair, changes nothing and is logged once. Assumes nothing: any thread may ask.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from worker.errors import ConfigError

_log = logging.getLogger(__name__)

# Seconds between two looks at the files; arbitrary: a look costs microseconds, and who rotates waits longer.
_LOOK_SECONDS = 1.0

_Content = TypeVar("_Content")
_Stamp = tuple[tuple[int, int, int, int], ...]


class Rotated(Generic[_Content]):
    """The content of files that may be replaced.

    Args:
        name: What the files hold, for the log.
        paths: The files.
        read: Reads and checks them; raises ConfigError or OSError.

    Raises:
        ConfigError: They cannot be read now, or are unsound.
    """

    def __init__(self, name: str, paths: Sequence[Path], read: Callable[[], _Content]) -> None:
        self._name = name
        self._paths = tuple(paths)
        self._read = read
        self._lock = threading.Lock()
        self._looked = time.monotonic()
        self._stamp = self._stamps()
        try:
            self._content = read()
        except OSError as error:
            raise ConfigError(f"cannot read the {name} {error.filename}: {error.strerror}") from None

    def get(self) -> _Content:
        """Returns the content, read again if the files changed a moment ago."""
        if time.monotonic() - self._looked >= _LOOK_SECONDS:
            self.look()
        return self._content

    def look(self) -> None:
        """Reads the files again if they are others."""
        with self._lock:
            self._looked = time.monotonic()
            stamp = self._stamps()
            if stamp == self._stamp:
                return
            try:
                content = self._read()
            except (ConfigError, OSError) as error:
                _log.error(
                    "rotation failed of=%r advice=%r why=%r", self._name, "the old one stays", str(error)
                )
            else:
                if self._stamps() != stamp:
                    return  # they changed under our hands: the next look reads them
                self._content = content
                _log.info("rotated of=%r", self._name)
            self._stamp = stamp

    def _stamps(self) -> _Stamp:
        return tuple(_stamp(path) for path in self._paths)


def _stamp(path: Path) -> tuple[int, int, int, int]:
    try:
        status = os.stat(path)  # noqa: PTH116  follows links: Kubernetes rotates secrets by links
    except OSError:
        return (0, 0, 0, 0)
    return (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)
