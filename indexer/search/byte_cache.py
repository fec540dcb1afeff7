"""Keeps what was made lately, within so many bytes.

Guarantees: any thread may ask; a value is made once, however many ask for it at the same moment, and who
waits for it gets the maker's error. The bytes of what is kept never pass the limit; what is being made, and
what callers still hold, comes on top.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class ByteCache(Generic[Key, Value]):
    """Values by key; those not used for longest go first.

    Args:
        limit_bytes: Of all values together.
        size: Returns the bytes of a value.
    """

    def __init__(self, limit_bytes: int, size: Callable[[Value], int]) -> None:
        self._limit, self._size = limit_bytes, size
        self._lock = threading.Lock()
        self._kept: OrderedDict[Key, Value] = OrderedDict()
        self._making: dict[Key, Future[Value]] = {}
        self._bytes = 0

    @property
    def bytes(self) -> int:
        """Bytes that are kept."""
        return self._bytes

    def get(self, key: Key, make: Callable[[], Value]) -> Value:
        """Returns the value of a key, made if it is not kept; raises what making it raises."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
            others = self._making.get(key)
            if others is None:
                mine = self._making[key] = Future()
        return self._make(key, make, mine) if others is None else others.result()

    def drop(self, key: Key) -> None:
        """Forgets the value of a key, if it is kept."""
        with self._lock:
            self._forget(key)

    def _make(self, key: Key, make: Callable[[], Value], mine: "Future[Value]") -> Value:
        try:
            value = make()
        except BaseException as error:
            with self._lock:
                del self._making[key]
            mine.set_exception(error)
            raise
        with self._lock:
            del self._making[key]
            self._kept[key] = value
            self._bytes += self._size(value)
            while self._bytes > self._limit:
                self._forget(next(iter(self._kept)))
        mine.set_result(value)
        return value

    def _forget(self, key: Key) -> None:
        if key in self._kept:
            self._bytes -= self._size(self._kept.pop(key))
