"""Addresses as pages write them, and the free ports that stand for them in a test."""

import re
import socket
from contextlib import ExitStack

# Hosts that pages use. One letter is another machine: here it is this one.
_ADDRESS = re.compile(r"(?<![\w.-])(127\.0\.0\.1|localhost|0\.0\.0\.0|[ab]):(\d{4,5})(?!\d)")


class Addresses:
    """Puts real addresses into what a page says, and the page's into what commands answer.

    Args:
        known: Port here of a machine that pages know by a letter, as `{"a:50051": 41234}`.
    """

    def __init__(self, known: dict[str, int]) -> None:
        self._here = dict(known)

    def to_here(self, text: str) -> str:
        """Returns text with an address that can be used here in place of each of the page's."""
        for host, port in _ADDRESS.findall(text):
            self._here.setdefault(self._key(host, port), free_port())
        return _ADDRESS.sub(lambda found: self._replace(found[1], found[2]), text)

    def to_page(self, text: str) -> str:
        """Returns text with the page's ports in place of those here; another machine stays this one."""
        for key, port in self._here.items():
            text = re.sub(rf":{port}(?!\d)", f":{key.rpartition(':')[2]}", text)
        return text

    def _replace(self, host: str, port: str) -> str:
        shown = host if len(host) > 1 else "127.0.0.1"
        return f"{shown}:{self._here[self._key(host, port)]}"

    @staticmethod
    def _key(host: str, port: str) -> str:
        return f"{host}:{port}" if len(host) == 1 else f":{port}"


def free_port() -> int:
    """Returns a port of this machine that nobody listened on a moment ago."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
