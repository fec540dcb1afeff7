"""`POST /v1/embeddings`: from the body of a request to the body of its answer."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from worker.errors import UnavailableError
from worker.requests.bulk import BulkStream
from worker.requests.frontend import DRAINS, Frontend
from worker.settings.config import ServeConfig
from worker.vectors import cut
from worker.wires.http.batches import Batches
from worker.wires.http.codec import Codec
from worker.wires.http.exchange import Account, Exchange
from worker.wires.http.refusals import NO_MODEL, NOT_JSON, Headers, HttpError
from worker.wires.http.request import EmbeddingRequest, Encoding, read_request

# Answers that OpenAI's form has no place for: texts that were cut, and the model that computed the vectors.
_TRUNCATED = "x-embedpool-truncated"
_FINGERPRINT = "x-embedpool-model-fingerprint"


class Answered(NamedTuple):
    """The body of an answer, and headers for it."""

    body: bytes
    headers: Headers


class _Embedded(NamedTuple):
    """Vectors float32 `[texts, dim]`, tokens of all texts, how many were cut, the model's fingerprint."""

    vectors: NDArray[np.float32]
    tokens: int
    truncated: int
    fingerprint: str


class Embedding:
    """Embeds what requests ask for.

    Args:
        config: Limits.
        frontend: Lets texts in.
        codec: Reads and writes JSON.
    """

    def __init__(self, config: ServeConfig, frontend: Frontend, codec: Codec) -> None:
        self._http = config.http
        self._limits = config.limits
        most = config.http.max_body_bytes_in_flight
        self._max_body_bytes = config.http.max_body_bytes or min(config.limits.max_message_bytes, most)
        self._account = Account(most)
        self._frontend = frontend
        self._codec = codec

    def names(self) -> Sequence[str]:
        """Returns the names by which the model may be called, its own first."""
        own = self._frontend.pool.current.manifest.name
        return (own, *(name for name in self._http.names if name != own))

    def check_name(self, name: str) -> None:
        """Does nothing where the model is called so.

        Raises:
            HttpError: It is not.
        """
        if name not in self.names():
            served = ", ".join(self.names())
            raise HttpError(
                NO_MODEL,
                f"the model {name[:80]!r} is not served here, but: {served}; --http-served-names gives it "
                "further names",
                "model",
            )

    async def answer(self, exchange: Exchange) -> Answered:
        """Embeds the texts of a request.

        Raises:
            CallerGoneError: The caller left before its body had come; later, this task is cancelled.
            WorkerError: It is refused, or could not be computed.
        """
        if self._frontend.draining:
            raise UnavailableError(DRAINS)
        _check_form(exchange)
        with self._account.opened() as hold:
            body = await exchange.body(self._max_body_bytes, hold, self._http.read_seconds)
            request = read_request(self._codec.read(body), self._http.max_inputs)
            self.check_name(request.model)
            async with exchange.watched():
                embedded = await (self._query(request) if request.is_query else self._bulk(request))
                pieces = self._codec.embeddings(
                    embedded.vectors, as_base64=request.encoding is Encoding.BASE64
                )
                data = await _joined(pieces)
        headers = [(_FINGERPRINT, embedded.fingerprint)]
        if embedded.truncated:
            headers.append((_TRUNCATED, str(embedded.truncated)))
        return Answered(self._list(data, request.model, embedded.tokens), tuple(headers))

    async def _query(self, request: EmbeddingRequest) -> _Embedded:
        answer = await self._frontend.query(request.texts, request.wanted.options)
        texts, manifest = answer.embeddings.texts, answer.model.manifest
        return _Embedded(
            cut(answer.embeddings.gather.vectors, request.wanted.dimensions, normalize=manifest.normalize),
            sum(text.token_count for text in texts),
            sum(text.truncated for text in texts),
            manifest.fingerprint,
        )

    async def _bulk(self, request: EmbeddingRequest) -> _Embedded:
        encoded = [text.encode() for text in request.texts]
        spoken: list[Batches] = []

        def speak(bulk: BulkStream) -> Batches:
            spoken.append(Batches(bulk, encoded, request.wanted.options, self._limits))
            return spoken[0]

        await self._frontend.converse(speak)
        batches = spoken[0]
        texts, manifest = list(batches.texts()), batches.model.manifest
        return _Embedded(
            cut(batches.vectors(), request.wanted.dimensions, normalize=manifest.normalize),
            sum(text.token_count for text in texts),
            sum(text.truncated for text in texts),
            manifest.fingerprint,
        )

    def _list(self, data: bytes, model: str, tokens: int) -> bytes:
        head, tail = b'{"object":"list","data":[', b'],"model":' + self._codec.write(model)
        return head + data + tail + b',"usage":{"prompt_tokens":%d,"total_tokens":%d}}' % (tokens, tokens)


async def _joined(pieces: Iterable[bytes]) -> bytes:
    """Joins pieces; others get their turn between two of them."""
    made: list[bytes] = []
    for piece in pieces:
        if made:
            await asyncio.sleep(0)
        made.append(piece)
    return b"".join(made)


def _check_form(exchange: Exchange) -> None:
    media, _, parameters = exchange.headers.get("content-type", "").partition(";")
    charset = parameters.strip().lower().removeprefix("charset=").strip('"')
    if media.strip().lower() != "application/json" or charset not in ("", "utf-8"):
        said = f"is {media[:80]!r}" if media else "is missing"
        raise HttpError(
            NOT_JSON, f"content-type {said}, send `content-type: application/json`, in UTF-8", "content-type"
        )
    if encoding := exchange.headers.get("content-encoding", "").replace("identity", ""):
        raise HttpError(
            NOT_JSON,
            f"content-encoding is {encoding[:80]!r}, bodies are read uncompressed",
            "content-encoding",
        )
