"""What searches keep in memory: bounded by bytes, made once."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.search.byte_cache import ByteCache


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 60))), st.integers(0, 100))
def test_what_is_kept_stays_within_the_limit(asked: list[tuple[int, int]], limit: int) -> None:
    """Whatever is asked for in whatever order: the value is right, and the bytes never pass the limit."""
    sizes: dict[int, int] = {}
    cache: ByteCache[int, bytes] = ByteCache(limit, len)
    for key, size in asked:
        sizes.setdefault(key, size)
        value = cache.get(key, lambda key=key: bytes(sizes[key]))  # type: ignore[misc]
        assert len(value) == sizes[key]
        assert 0 <= cache.bytes <= limit


def test_the_longest_unused_goes_first() -> None:
    """What was asked for lately is kept."""
    made: list[str] = []

    def ask(key: str) -> None:
        cache.get(key, lambda: made.append(key) or bytes(4))  # type: ignore[func-returns-value]

    cache: ByteCache[str, bytes] = ByteCache(8, len)
    for key in ("a", "b", "a", "c", "a", "b"):
        ask(key)
    assert made == ["a", "b", "c", "b"]
    cache.drop("b")
    assert cache.bytes == 4
    ask("b")
    assert made[-1] == "b"


def test_a_value_is_made_once_for_all_who_wait() -> None:
    """Threads that ask at once get one value; its maker's error reaches them all, and is not kept."""
    begun, go = threading.Event(), threading.Event()
    makes: list[int] = []

    def make(fail: bool) -> Callable[[], bytes]:
        def slow() -> bytes:
            makes.append(1)
            begun.set()
            assert go.wait(20)
            if fail:
                raise ValueError("no")
            return b"value"

        return slow

    cache: ByteCache[str, bytes] = ByteCache(100, len)
    for fail in (True, False):
        begun.clear()
        go.clear()
        makes.clear()
        with ThreadPoolExecutor(8) as threads:
            answers = [threads.submit(cache.get, "key", make(fail)) for _ in range(8)]
            assert begun.wait(20)
            go.set()
            for answer in answers:
                if fail:
                    with pytest.raises(ValueError, match="no"):
                        answer.result(20)
                else:
                    assert answer.result(20) == b"value"
        assert fail or len(makes) == 1
