"""All gRPC services that embed, on one server: whatever wire a client speaks, the port is the same."""

import grpc

from embedpool.v1 import embedding_service_pb2, embedding_service_pb2_grpc
from embedpool.wires import open_inference_pb2, open_inference_pb2_grpc, tei_pb2, tei_pb2_grpc
from worker.requests.frontend import Frontend
from worker.wires.native.service import EmbeddingService
from worker.wires.open_inference.service import InferenceService
from worker.wires.tei.service import EmbedService, InfoService, TokenizeService

# Full names, for reflection and for health checks.
SERVICES = tuple(
    service.full_name
    for module in (embedding_service_pb2, tei_pb2, open_inference_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
)


def add_services(frontend: Frontend, rpc: grpc.aio.Server) -> None:
    """Puts the services on a server."""
    embedding_service_pb2_grpc.add_EmbeddingServiceServicer_to_server(EmbeddingService(frontend), rpc)
    tei_pb2_grpc.add_InfoServicer_to_server(InfoService(frontend), rpc)
    tei_pb2_grpc.add_EmbedServicer_to_server(EmbedService(frontend), rpc)
    tei_pb2_grpc.add_TokenizeServicer_to_server(TokenizeService(frontend), rpc)
    open_inference_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(InferenceService(frontend), rpc)
