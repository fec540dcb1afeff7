"""How the tests of the documentation read a page: what counts as a command, and as the same output."""

import pytest

from tests.documentation.blocks import blocks_of, matches, setup_of

PAGE = """# Page
<!-- setup: bundle pool=a:50051 -->

<!-- numbers differ -->
```console
$ one --flag \\
    more
out 1
$ two &
```

<!-- not run: needs a cluster -->
```console
$ three
```

<!-- file: x.toml -->
```toml
a = 1
```
"""


def test_a_page_is_read_as_it_stands() -> None:
    """Commands with what is shown below them, continued lines, and the comment above each block."""
    first, second, third = blocks_of(PAGE)
    one, two = first.commands()
    assert (one.text, one.expected) == ("one --flag \\\n    more", ("out 1",))
    assert two.in_background
    assert not one.in_background
    assert "numbers differ" in first.notes
    assert (second.reason, third.notes) == ("needs a cluster", {"file": "x.toml"})
    assert setup_of(PAGE) == {"bundle": "", "pool": "a:50051"}


@pytest.mark.parametrize(
    ("expected", "actual", "numbers_differ", "same"),
    [
        (("a",), ["a"], False, True),
        (("a",), ["a", "b"], False, False),
        (("a", "…"), ["a", "b", "c"], False, True),
        (("a", "…", "d"), ["a", "b"], False, False),
        (("… of …",), ["3 of 4"], False, True),
        (("took 1.5 s",), ["took 27 s"], False, False),
        (("took 1.5 s",), ["took 27.25 s"], True, True),
        (("took 1.5 s …",), ["took 2 s so"], True, True),
        (("took 1.5 s",), ["took long"], True, False),
        (("1,000 rows",), ["20 rows"], True, True),
        (("a  b",), ["a      b"], False, True),
        (("ready 127.0.0.1:50051",), ["ready 127.0.0.1:50051"], True, True),
    ],
)
def test_output_is_compared(
    expected: tuple[str, ...], actual: list[str], numbers_differ: bool, same: bool
) -> None:
    """Exactly, but for `…`, for width of space, and for numbers where the page says so."""
    assert matches(expected, actual, numbers_differ=numbers_differ) is same
