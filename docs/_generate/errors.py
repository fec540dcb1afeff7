"""The errors that programs and libraries raise, from the classes."""

import inspect
from types import ModuleType
from typing import cast

from docs._generate.markdown import prose, table
from worker.errors import WorkerError
from worker.wires.status import status_of


def worker_errors() -> str:
    """Returns the errors of the worker that reach a caller, each with its gRPC status."""
    import worker.errors as tree

    rows = [(f"`{kind.__name__}`", f"`{_status(kind)}`", _first(kind)) for kind in _kinds(tree)]
    return table(("error", "status", "when"), rows)


def indexer_errors() -> str:
    """Returns the errors that `indexer` raises, as a tree."""
    import indexer.errors as tree

    kinds = [kind for kind in _kinds(tree) if issubclass(kind, tree.IndexerError)]
    rows = [(f"`{kind.__name__}`", f"`{kind.__bases__[0].__name__}`", _first(kind)) for kind in kinds]
    return table(("error", "is a", "when"), rows)


def build_errors() -> str:
    """Returns the errors of a build."""
    import build_models.errors as tree

    return table(("error", "when"), [(f"`{kind.__name__}`", _first(kind)) for kind in _kinds(tree)])


def _kinds(tree: ModuleType) -> list[type[BaseException]]:
    return [
        value
        for value in vars(tree).values()
        if inspect.isclass(value) and issubclass(value, BaseException) and value.__module__ == tree.__name__
    ]


def _status(kind: type[BaseException]) -> str:
    error = kind.__new__(kind)  # without its arguments: only its type is asked
    return str(status_of(cast("WorkerError", error)).name)


def _first(kind: type[BaseException]) -> str:
    return prose(" ".join((inspect.getdoc(kind) or "").partition("\n\n")[0].split()))
