"""The RPCs of `embedpool.v1.EmbeddingService`: between their messages and the frontend."""

from functools import partial

from embedpool.v1 import embedding_service_pb2 as pb
from embedpool.v1 import embedding_service_pb2_grpc
from worker.errors import RequestError, WorkerError
from worker.models import Model
from worker.requests.bulk import BulkStream
from worker.requests.frontend import Frontend
from worker.requests.intake import Options
from worker.wires.native.conversation import Context, DocumentConversation
from worker.wires.native.messages import model_response, query_response, read_options
from worker.wires.status import abort


class EmbeddingService(embedding_service_pb2_grpc.EmbeddingServiceServicer):
    """Serves the contract in `embedding_service.proto`."""

    def __init__(self, frontend: Frontend) -> None:
        self._frontend = frontend
        self._max_windows = frontend.config.max_windows

    async def GetModel(self, request: pb.GetModelRequest, context: Context) -> pb.GetModelResponse:  # noqa: N802
        """Tells which model is served, its limits and its prompts."""
        return model_response(self._frontend.pool.current, self._frontend.config)

    async def EmbedQuery(self, request: pb.EmbedQueryRequest, context: Context) -> pb.EmbedQueryResponse:  # noqa: N802
        """Embeds one text or a few, before bulk work."""
        try:
            read = partial(self._query_options, request.options)
            answer = await self._frontend.query(list(request.texts), read)
        except WorkerError as error:
            await abort(context, error)
        return query_response(answer)

    async def EmbedDocuments(self, request_iterator: object, context: Context) -> None:  # noqa: N802
        """Embeds batches of documents, whichever is done first."""

        def speak(bulk: BulkStream) -> DocumentConversation:
            return DocumentConversation(bulk, context, self._max_windows, lambda: self._frontend.draining)

        try:
            await self._frontend.converse(speak)
        except WorkerError as error:
            await abort(context, error)

    def _query_options(self, message: pb.EmbeddingOptions, model: Model) -> Options:
        options = read_options(message, model, model.manifest.query_prompt, self._max_windows)
        if options.chunking is not None and options.chunking.separate:
            raise RequestError(
                "options.chunking.separate is for EmbedDocuments: a query has one vector; leave it out"
            )
        return options
