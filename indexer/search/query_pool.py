"""Embeds queries for an index: any of several pools, and always the index's model.

Guarantees: may be used from many threads.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from indexer.client import Access, Client, unreachable
from indexer.errors import AwayError, ConfigError, ModelMismatchError
from indexer.plan import Model

WAIT_SECONDS = 10.0  # for a pool that is away or overloaded


class QueryPool:
    """Pools that serve the model of an index.

    Args:
        index: Folder of the index, for messages.
        model: The model that made its vectors.
        targets: Addresses of pools; whichever is there is asked.
        access: What opens them; None for nothing.
        wait_seconds: How long pools that are away or overloaded are waited for.

    Raises:
        PoolError: No pool can be reached.
        ModelMismatchError: A pool serves another model.
    """

    def __init__(
        self,
        index: Path,
        model: Model,
        targets: str | Sequence[str],
        access: Access | None = None,
        wait_seconds: float = WAIT_SECONDS,
    ) -> None:
        self._index, self.model, self._wait_seconds = index, model, wait_seconds
        access = access or Access()
        self._client = Client(
            targets,
            tls=access.tls,
            token=access.token,
            plaintext_token=access.plaintext_token,
            fingerprint=model.fingerprint,
        )
        try:
            self._check_pools()
        except BaseException:
            self._client.close()
            raise

    @property
    def unreached(self) -> list[str]:
        """Why pools take no part, a line for each that does not."""
        return [str(unreachable(one.address, one.error)) for one in self._client.targets if one.error]

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Returns the vectors of queries, float32 `[texts, dim]`.

        Raises:
            ConfigError: A text is empty.
            PoolError: The pool refused a text or stayed away.
            ModelMismatchError: The pool serves another model by now.
        """
        for position, text in enumerate(texts):
            if not text.strip():
                raise ConfigError(f"query {position + 1} is empty; give it words")
        if not texts:
            return np.empty((0, self.model.dim), dtype=np.float32)
        try:
            return self._client.embed_query(texts, timeout=self._wait_seconds).vectors
        except ModelMismatchError as error:
            raise self._mismatch(error) from error

    def close(self) -> None:
        """Ends the connections."""
        self._client.close()

    def _check_pools(self) -> None:
        try:
            self._client.model(timeout=self._wait_seconds)
        except ModelMismatchError as error:
            raise self._mismatch(error) from error
        except AwayError as error:
            addresses = ",".join(target.address for target in self._client.targets)
            raise unreachable(addresses, str(error)) from error

    def _mismatch(self, error: ModelMismatchError) -> ModelMismatchError:
        return ModelMismatchError(
            f"index {self._index} holds vectors of model {self.model.label()}, and a pool serves another: "
            f"start the right worker, or build a new index ({error})"
        )
