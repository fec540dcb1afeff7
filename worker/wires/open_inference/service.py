"""The RPCs of `inference.GRPCInferenceService`: between their messages and the frontend."""

from collections.abc import Callable, Mapping
from typing import Any

from embedpool.wires import open_inference_pb2 as pb
from embedpool.wires import open_inference_pb2_grpc
from worker.errors import NotServedError, RequestError, WorkerError
from worker.models import Model
from worker.requests.frontend import Frontend
from worker.requests.intake import Options, decode
from worker.vectors import cut
from worker.wires.open_inference.messages import (
    Inference,
    Inferred,
    model_metadata,
    read_request,
    response,
    server_metadata,
)
from worker.wires.open_inference.served import check_served
from worker.wires.status import abort
from worker.wires.wording import Words, reworded

# gRPC publishes no types: an Any with a name.
Context = Any

_WORDS = Words(text="text[{}]", texts="input text", option="parameter ")


class InferenceService(open_inference_pb2_grpc.GRPCInferenceServiceServicer):
    """Serves the one model of the pool."""

    def __init__(self, frontend: Frontend) -> None:
        self._frontend = frontend
        self._names = frontend.config.http.names
        self._limits = frontend.config.limits

    async def ServerLive(self, request: pb.ServerLiveRequest, context: Context) -> pb.ServerLiveResponse:  # noqa: N802
        """Tells that the server answers."""
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(self, request: pb.ServerReadyRequest, context: Context) -> pb.ServerReadyResponse:  # noqa: N802
        """Tells whether texts would be embedded now."""
        return pb.ServerReadyResponse(ready=self._frontend.ready)

    async def ModelReady(self, request: pb.ModelReadyRequest, context: Context) -> pb.ModelReadyResponse:  # noqa: N802
        """Tells whether this model would embed texts now."""
        try:
            self._check(self._frontend.pool.current, request.name, request.version)
        except NotServedError:
            return pb.ModelReadyResponse(ready=False)
        return pb.ModelReadyResponse(ready=self._frontend.ready)

    async def ServerMetadata(  # noqa: N802
        self, request: pb.ServerMetadataRequest, context: Context
    ) -> pb.ServerMetadataResponse:
        """Describes the server."""
        return server_metadata()

    async def ModelMetadata(  # noqa: N802
        self, request: pb.ModelMetadataRequest, context: Context
    ) -> pb.ModelMetadataResponse:
        """Describes the model's tensors."""
        model = self._frontend.pool.current
        try:
            self._check(model, request.name, request.version)
        except NotServedError as error:
            await abort(context, error)
        return model_metadata(model, self._names)

    async def ModelInfer(self, request: pb.ModelInferRequest, context: Context) -> pb.ModelInferResponse:  # noqa: N802
        """Embeds texts: all of them, or none."""
        try:
            self._check(self._frontend.pool.current, request.model_name, request.model_version)
            inference = read_request(request, self._limits)

            def read_options(model: Model) -> Options:
                # Another model may have taken over since.
                self._check(model, request.model_name, request.model_version)
                return inference.wanted.options(model)

            is_query = inference.wanted.is_query(len(inference.texts))
            found = await (self._query if is_query else self._bulk)(inference, read_options)
        except WorkerError as error:
            await abort(context, reworded(error, _WORDS))
        return response(request, inference, found)

    async def _query(self, inference: Inference, read_options: Callable[[Model], Options]) -> Inferred:
        texts = []
        for index, text in enumerate(inference.texts):
            try:
                texts.append(decode(text, self._limits))
            except RequestError as error:
                raise RequestError(f"texts[{index}]: {error}") from None
        answer = await self._frontend.query(texts, read_options)
        embedded, manifest = answer.embeddings.texts, answer.model.manifest
        return Inferred(
            cut(answer.embeddings.gather.vectors, answer.options.dimensions, normalize=manifest.normalize),
            [text.token_count for text in embedded],
            sum(text.truncated for text in embedded),
            answer.model,
        )

    async def _bulk(self, inference: Inference, read_options: Callable[[Model], Options]) -> Inferred:
        batch = await self._frontend.documents(inference.texts, read_options)
        if batch.gather.errors:
            raise _first_bad(batch.gather.errors, batch.size)
        embedded = [text for text in batch.texts if text is not None]
        return Inferred(
            cut(batch.gather.vectors, batch.options.dimensions, normalize=batch.model.manifest.normalize),
            [text.token_count for text in embedded],
            sum(text.truncated for text in embedded),
            batch.model,
        )

    def _check(self, model: Model, name: str, version: str) -> None:
        check_served(model.manifest, self._names, name, version)


def _first_bad(errors: Mapping[int, WorkerError], total: int) -> WorkerError:
    index, *others = sorted(errors)
    more = f" ({1 + len(others)} of the {total} texts are bad)" if others else ""
    return type(errors[index])(f"texts[{index}]: {errors[index]}{more}")
