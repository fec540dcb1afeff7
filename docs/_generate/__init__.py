"""Writes the parts of the reference that code already says: an extension of Sphinx.

A page holds a line `<!-- generated: NAME -->`; when the site is built, Markdown made from the code takes its
place. Nothing that is generated is committed, so it cannot be stale.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

PARTS: Mapping[str, Callable[[], str]] = {}

_MARKER = re.compile(r"^<!-- generated: (.+?) -->$", re.MULTILINE)


def fill(page: str) -> str:
    """Returns a page's Markdown with every marker replaced by what it names.

    Raises:
        KeyError: A marker names no part.
    """
    return _MARKER.sub(lambda found: PARTS[found[1]](), page)


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx: fills pages as they are read."""
    app.connect("source-read", _fill)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _fill(app: Any, name: str, source: list[str]) -> None:
    source[0] = fill(source[0])
