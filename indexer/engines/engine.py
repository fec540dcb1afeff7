"""What `run` wants of an engine."""

from collections.abc import Sequence
from typing import Protocol

from rich.console import Console

from indexer.client import Pool
from indexer.config import FlowConfig
from indexer.embedding.work import Embedded, Work
from indexer.plan import Unit
from indexer.progress import Progress
from indexer.store.layout import Layout


class Engine(Protocol):
    """Embeds the units of an index."""

    def reach(self, layout: Layout, flow: FlowConfig, console: Console) -> dict[str, Pool]:
        """Returns pools that answer, by address; all serve one model. Called once, before all else.

        Args:
            layout: The index; its folder is there, and may hold no plan yet.
            flow: How long to wait for pools.
            console: Where to show what cannot be reached.

        Raises:
            IndexerError: None answers, or two serve different models.
        """
        ...

    def embed(self, work: Work, missing: Sequence[Unit], progress: Progress) -> Embedded:
        """Embeds units until all are committed, by this run or by others; returns what this run did.

        Args:
            work: What they are of. The caller holds the index, shared.
            missing: Units that are not committed, in order.
            progress: Told how far it is.

        Raises:
            IndexerError: An input, the pools or the file system failed; units committed before stay.
            StoppedError: SIGINT or SIGTERM came.
        """
        ...
