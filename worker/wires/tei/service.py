"""The RPCs of `tei.v1`: between their messages and the frontend."""

import time
from functools import partial

from embedpool.wires import tei_pb2 as pb
from embedpool.wires import tei_pb2_grpc
from worker.errors import WorkerError
from worker.requests.bulk import BulkStream
from worker.requests.frontend import Frontend
from worker.requests.telling import Telling
from worker.wires.status import abort
from worker.wires.tei.conversation import Context, EmbedConversation, TokenizeConversation
from worker.wires.tei.messages import (
    TABLE,
    Asked,
    encode_response,
    headers_of,
    info_response,
    prompt_of,
    query_response,
    read_options,
    worded,
)


class InfoService(tei_pb2_grpc.InfoServicer):
    """Tells what is served."""

    def __init__(self, frontend: Frontend) -> None:
        self._frontend = frontend

    async def Info(self, request: pb.InfoRequest, context: Context) -> pb.InfoResponse:  # noqa: N802
        """Tells which model is served, and limits."""
        return info_response(self._frontend.pool.current, self._frontend.config)


class EmbedService(tei_pb2_grpc.EmbedServicer):
    """Embeds."""

    def __init__(self, frontend: Frontend) -> None:
        self._frontend = frontend

    async def Embed(self, request: pb.EmbedRequest, context: Context) -> pb.EmbedResponse:  # noqa: N802
        """Embeds one text, before bulk work."""
        began = time.perf_counter_ns()
        try:
            answer = await self._frontend.query([request.inputs], partial(read_options, request))
        except WorkerError as error:
            await abort(context, worded(error), TABLE)
        response = query_response(Asked.of(request), answer, began)
        await context.send_initial_metadata(headers_of(response.metadata))
        return response

    async def EmbedStream(self, request_iterator: object, context: Context) -> None:  # noqa: N802
        """Embeds texts, each answered in its turn."""

        def speak(bulk: BulkStream) -> EmbedConversation:
            return EmbedConversation(bulk, context)

        try:
            await self._frontend.converse(speak)
        except WorkerError as error:
            await abort(context, error, TABLE)


class TokenizeService(tei_pb2_grpc.TokenizeServicer):
    """Tells tokens."""

    def __init__(self, frontend: Frontend) -> None:
        self._frontend = frontend

    async def Tokenize(self, request: pb.EncodeRequest, context: Context) -> pb.EncodeResponse:  # noqa: N802
        """Tells the tokens of one text."""
        try:
            return await self._frontend.tokens(_telling(request))
        except WorkerError as error:
            await abort(context, worded(error), TABLE)

    async def TokenizeStream(self, request_iterator: object, context: Context) -> None:  # noqa: N802
        """Tells the tokens of texts, each in its turn."""

        def speak(_: BulkStream) -> TokenizeConversation:
            return TokenizeConversation(context, tell)

        async def tell(request: pb.EncodeRequest) -> pb.EncodeResponse:
            return await self._frontend.tokens_in_turn(_telling(request))

        try:
            await self._frontend.converse(speak)
        except WorkerError as error:
            await abort(context, error, TABLE)


def _telling(request: pb.EncodeRequest) -> Telling[pb.EncodeResponse]:
    return Telling(request.inputs, request.add_special_tokens, partial(prompt_of, request), encode_response)
