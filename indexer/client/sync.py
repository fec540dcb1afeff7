"""The client for threads: `AsyncClient` in a loop of its own, so that both behave alike.

Guarantees: may be called from many threads; a call that is interrupted (Ctrl-C) is cancelled at the pool.
Costs a fraction of a millisecond a call for the way to the loop's thread and back.
"""

import asyncio
import contextlib
import threading
from collections.abc import Coroutine, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from types import TracebackType
from typing import Any, TypeVar, Unpack

from indexer.client.aio import TIMEOUT_SECONDS, AsyncClient
from indexer.client.answers import Document, Embeddings, Pool
from indexer.client.configuration import ClientSettings, TextOptions, options_of
from indexer.client.cutting import Cutter, TextBatch
from indexer.client.members import Target
from indexer.client.naming import name_of, split
from indexer.client.settings import Access
from indexer.client.statistics import Statistics
from indexer.client.status import Status
from indexer.errors import AwayError, PoolError

T = TypeVar("T")


class Client:
    """Embeds texts with one pool or several that serve the same model; a context manager.

    A call goes to the less busy of two pools drawn by chance. One that fails is set aside and asked again
    after growing delays; its calls go to another one. UNAVAILABLE, RESOURCE_EXHAUSTED (after the time that
    the pool asks for), ABORTED, CANCELLED and a lost attempt are tried again until the timeout, within a
    retry budget; every other status is an error at once.

    A query that is late is sent to a second pool as well, and the first answer counts.

    Args:
        targets: `HOST:PORT`, `unix:PATH`, or `dns:///NAME:PORT` for all addresses that a name has, followed
            as they change; several in a sequence or with commas between them.
        settings: As keywords; `ClientConfig` says what each is.

    Raises:
        ConfigError: A setting is impossible, or a file of the TLS configuration cannot be read.

    Example:
        >>> from indexer.client import Client
        >>> with Client("127.0.0.1:50051") as client:  # doctest: +SKIP
        ...     found = client.embed_query(["sort a list", "order the elements"])
        ...     print(found.vectors[0] @ found.vectors[1], found.fingerprint)
        ...     for document in client.embed_documents(open("lines.txt")):
        ...         print(document.index, document.vector if document.ok else document.message)
    """

    def __init__(self, targets: str | Sequence[str], **settings: Unpack[ClientSettings]) -> None:
        self._client = AsyncClient(targets, **settings)
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(_report)
        self._thread = threading.Thread(target=self._work, name="embedpool-client", daemon=True)
        self._thread.start()
        try:
            self._run(self._client.open())
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connections and every call on them; a second time does nothing."""
        if self._loop.is_closed():
            return
        self._run(self._finish())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def abandon(self) -> None:
        """Ends the connections soon, and waits for nothing: for finalizers.

        Garbage is collected in any thread and at any place, also where gRPC holds a lock that closing needs.
        """
        with contextlib.suppress(RuntimeError):  # it is closed
            self._loop.call_soon_threadsafe(self._begin_to_end)

    @property
    def targets(self) -> tuple[Target, ...]:
        """How each pool stands, as this client sees it."""
        return self._run(self._standings())

    def model(self, *, timeout: float = TIMEOUT_SECONDS) -> Pool:
        """Returns what the pools serve, and the limits of one of them.

        Raises:
            AwayError: None of them answered within `timeout` seconds.
            ModelMismatchError: They serve different models; the message names both.
            PoolError: They refuse, for example a token that they do not know.
        """
        return self._run(self._client.model(timeout=timeout))

    def embed_query(
        self,
        texts: str | Sequence[str],
        *,
        timeout: float = TIMEOUT_SECONDS,
        request_id: str = "",
        **words: Unpack[TextOptions],
    ) -> Embeddings:
        """Embeds one text or a few, which the pools serve before all bulk work.

        Args:
            texts: The texts; more than a pool takes in one call go in several.
            timeout: Seconds over all attempts.
            request_id: `x-request-id` of the call, for the pools' logs; "" for a new one.
            words: How texts are embedded.

                - `dimensions`: leading values to keep (Matryoshka models), normalized again; 0 for all.
                - `prompt_name`: one of the model's prompts; None for its prompt for queries.
                - `vector_type`: how values travel: float32, or float16 or int8 for fewer bytes; they arrive
                  as float32.
                - `chunking`: how texts longer than a window are cut; None for not at all.
                - `reject_long`: whether a text longer than the model takes is an error instead of cut.

        Raises:
            AwayError: No pool answered in time; `code` and `retry_after` say how it went.
            PoolError: A pool refused, for example an empty text (INVALID_ARGUMENT).
            ModelMismatchError: The pools serve different models.
        """
        work = self._client.embed_query(texts, timeout=timeout, request_id=request_id, **words)
        return self._run(work)

    def embed_documents(
        self,
        texts: Iterable[str | bytes],
        *,
        timeout: float | None = None,
        **words: Unpack[TextOptions],
    ) -> Iterator[Document]:
        """Embeds many texts as bulk work, over all pools; yields an outcome for each, in the input's order.

        The input is read, in the calling thread, as far ahead as `flow.bytes_in_flight` allows. A text
        that a pool refuses is an outcome with a code and ends nothing. What a pool that goes away owes is
        sent to another one, or to the same when it is back; a drained pool answers what it took before. One
        that joins gets work. One that begins to refuse (it took another model over, say) is set aside with a
        line in the log, and asked again from time to time, while others go on.

        Args:
            texts: The texts, as str or UTF-8 bytes.
            timeout: Seconds for all of it; None for as long as it takes.
            words: As in `embed_query`; `prompt_name` None is the model's prompt for documents.

        Raises:
            GaveUpError: All pools were away for `flow.retry_seconds`.
            AwayError: No pool was there at the start, or the timeout passed.
            PoolError: Every pool refused the call as a whole.
            ModelMismatchError: Every pool serves another model than the documents before.
        """
        options = options_of(**words)
        deadline = None if timeout is None else self._loop.time() + timeout
        job = self._run(self._client.start_job(options, timeout))
        cutter = Cutter(job.rule)
        try:
            for text in texts:
                if (batch := cutter.add(text)) is not None:
                    self._run(job.submit(batch))
                    while job.ready or not job.room:
                        yield from self._run(job.take(deadline))
            last: TextBatch | None = cutter.rest()
            if last is not None:
                self._run(job.submit(last))
            while job.pending:
                yield from self._run(job.take(deadline))
        finally:
            if not self._loop.is_closed():
                self._run(job.close())

    def statistics(self, *, timeout: float = TIMEOUT_SECONDS) -> Mapping[str, Statistics]:
        """Returns what each pool counted since its start, by address; a pool that is away is left out.

        Raises:
            AwayError: All are away.
            PoolError: One refuses.
        """
        return self._run(self._client.statistics(timeout=timeout))

    def _work(self) -> None:
        self._loop.run_forever()
        self._loop.close()

    def _begin_to_end(self) -> None:
        self._ending = self._loop.create_task(self._finish())
        self._ending.add_done_callback(lambda _: self._loop.stop())

    async def _finish(self) -> None:
        await self._client.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _standings(self) -> tuple[Target, ...]:
        return self._client.targets

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs work in the loop and waits for it; an interruption here cancels it there."""
        if self._loop.is_closed():
            work.close()
            raise PoolError("the client is closed; make a new one")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except CancelledError:
            raise PoolError("the client was closed during the call", Status.CANCELLED) from None
        except BaseException:
            future.cancel()
            raise


def _report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Reports what went wrong in the loop, but for what is known to be nothing.

    Where several loops use gRPC, each of its wake-ups reaches all of them and all but one find nothing to
    read: BlockingIOError, harmless (github.com/grpc/grpc/issues/25364).
    """
    if not isinstance(context.get("exception"), BlockingIOError):
        loop.default_exception_handler(context)


def describe(target: str, access: Access, wait_seconds: float) -> Pool:
    """Asks a pool what it serves, waiting for it to come up for so long.

    Raises:
        PoolError: Nothing answers at `target`; the message says how to start a pool.
    """
    with Client(target, tls=access.tls, token=access.token, plaintext_token=access.plaintext_token) as client:
        try:
            return client.model(timeout=wait_seconds)
        except AwayError as error:
            raise unreachable(target, str(error)) from error


def unreachable(target: str, reason: str) -> PoolError:
    """Returns the error for a pool that nobody answers for; it says how to start one."""
    addresses = [one for one in split(target) if name_of(one) is None]
    if not addresses:
        return PoolError(
            f"cannot reach a worker at {target} ({reason}); is that the name of a service, and are pods "
            "of it ready?"
        )
    return PoolError(
        f"cannot reach a worker at {target} ({reason}); start one with "
        f"'python -m worker serve --bundle DIR --listen {addresses[0]}', or use --bundle DIR"
    )
