"""Every setting of a comparison."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from build_models.errors import BuildError

QUERIES = 512
QUERY_TOKENS = 64
_SHORTEST = 3  # tokens with room for one word between the special ones


class ReferenceSize(StrEnum):
    """A well-known size of model that is compared too, with random weights."""

    NONE = "none"
    DISTILBERT = "distilbert"


@dataclass(frozen=True)
class CompareConfig:
    """What to compare, on what, and where the result goes.

    Attributes:
        bundles: Folders of bundles, one row each.
        models: Folder or hub id of the models that the bundles were built from, one for each task at most.
        eval_data: Folders of evaluation sets; none for the known-item set of docstrings.
        eval_documents: Documents of each set at most, those judged always kept; 0 for all.
        eval_queries: Queries of each set at most, or sentences of a tagger's; 0 for all.
        reference_size: Size of a model with random weights that is timed as well.
        queries: How many queries are timed.
        tokens: Tokens of each of them, special ones included.
        plot: PNG to write; None for none.
        json: JSON to write; None for none.
    """

    bundles: tuple[Path, ...]
    models: tuple[str, ...] = ()
    eval_data: tuple[Path, ...] = ()
    eval_documents: int = 0
    eval_queries: int = 0
    reference_size: ReferenceSize = ReferenceSize.NONE
    queries: int = QUERIES
    tokens: int = QUERY_TOKENS
    plot: Path | None = None
    json: Path | None = None

    def __post_init__(self) -> None:
        if not self.bundles:
            raise BuildError("there is nothing to compare: give one bundle or more")
        if min(self.eval_documents, self.eval_queries) < 0:
            raise BuildError("eval-documents and eval-queries count what is kept: give 0 for all, or more")
        if self.queries < 1:
            raise BuildError(f"queries is {self.queries}, wanted how many are timed: 1 or more")
        if self.tokens < _SHORTEST:
            raise BuildError(f"tokens is {self.tokens}, wanted {_SHORTEST} or more for each query")
