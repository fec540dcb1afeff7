"""Writes the parts of the reference that code already says: an extension of Sphinx.

A page holds a line `<!-- generated: NAME -->`; when the site is built, Markdown made from the code takes its
place. Nothing that is generated is committed, so it cannot be stale.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from build_models.__main__ import main as build_models
from docs._generate import errors, metrics, settings, wire
from docs._generate.command_line import commands
from indexer.__main__ import cli as indexer
from worker.__main__ import main as worker

PARTS: Mapping[str, Callable[[], str]] = {
    "commands of worker": lambda: commands(worker, "python -m worker"),
    "commands of indexer": lambda: commands(indexer, "python -m indexer"),
    "commands of build_models": lambda: commands(build_models, "python -m build_models"),
    "settings of the server": settings.server_settings,
    "services": wire.services,
    "metrics": metrics.metric_names,
    "errors of worker": errors.worker_errors,
    "errors of indexer": errors.indexer_errors,
    "errors of build_models": errors.build_errors,
}

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
