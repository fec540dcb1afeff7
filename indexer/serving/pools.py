"""Embeds queries with the pools, for whichever model the index has at the moment.

Guarantees: vectors are of the model that was asked for; clients of a model that the index left are closed
when their last call is done. Assumes one event loop.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from indexer.client import Access, AsyncClient
from indexer.errors import AwayError, ConfigError, ModelMismatchError, PoolError
from indexer.plan import Model


@dataclass
class _Member:
    """A client that wants one model, and the calls that use it."""

    client: AsyncClient
    calls: int = 0


class Pools:
    """Pools whose query class embeds for an index.

    Args:
        index: Name of the index, for messages.
        targets: Their addresses.
        access: What opens them.

    Raises:
        ConfigError: An address or a file of the access is none.
    """

    def __init__(self, index: str, targets: Sequence[str], access: Access) -> None:
        self._index, self._targets, self._access = index, targets, access
        self._members: dict[str, _Member] = {}
        self._wanted = ""

    async def embed(
        self, model: Model, texts: Sequence[str], seconds: float, request_id: str
    ) -> NDArray[np.float32]:
        """Returns the vectors of queries, float32 `[texts, dim]`.

        Raises:
            AwayError: Every pool is away or overloaded for so many seconds.
            ModelMismatchError: The pools serve another model.
            PoolError: The pool refused a text.
        """
        async with self._client(model.fingerprint) as client:
            try:
                found = await client.embed_query(texts, timeout=seconds, request_id=request_id)
            except ModelMismatchError as error:
                raise self._mismatch(model, error) from error
            except ConfigError as error:
                raise PoolError(f"the pool cannot be asked: {error}") from error
        return found.vectors

    async def check(self, model: Model, seconds: float) -> str:
        """Asks the pools for their model; returns why they are away, "" if one serves it.

        Raises:
            ModelMismatchError: They serve another model.
            PoolError: They refuse, for example the token.
        """
        async with self._client(model.fingerprint) as client:
            try:
                await client.model(timeout=seconds)
            except AwayError as error:
                return str(error)
            except ModelMismatchError as error:
                raise self._mismatch(model, error) from error
        return ""

    async def close(self) -> None:
        """Ends the connections and every call on them."""
        for member in self._members.values():
            await member.client.close()
        self._members.clear()

    def _mismatch(self, model: Model, error: ModelMismatchError) -> ModelMismatchError:
        return ModelMismatchError(
            f"index {self._index} holds vectors of model {model.label()}: {error}: start the right worker, "
            "or search by vectors"
        )

    @asynccontextmanager
    async def _client(self, fingerprint: str) -> AsyncIterator[AsyncClient]:
        member = self._members.get(fingerprint)
        if member is None:
            client = AsyncClient(
                self._targets,
                tls=self._access.tls,
                token=self._access.token,
                plaintext_token=self._access.plaintext_token,
                fingerprint=fingerprint,
            )
            await client.open()  # makes connections without waiting for any: no other task comes in between
            member = self._members[fingerprint] = _Member(client)
        self._wanted = fingerprint
        member.calls += 1
        try:
            yield member.client
        finally:
            member.calls -= 1
            await self._close_left()

    async def _close_left(self) -> None:
        for fingerprint, member in list(self._members.items()):
            if fingerprint != self._wanted and not member.calls:
                del self._members[fingerprint]
                await member.client.close()
