"""Asks a running server what it serves."""

import json

import grpc
from google.protobuf.json_format import MessageToDict
from grpc_health.v1 import health_pb2, health_pb2_grpc

from embedpool.v1 import embedding_service_pb2 as pb
from embedpool.v1 import embedding_service_pb2_grpc
from worker.errors import UnavailableError


def describe(target: str, timeout: float, *, as_json: bool) -> str:
    """Returns the model, the limits and the health of the server at `target`, as JSON or as lines.

    Raises:
        UnavailableError: No server answers there within `timeout` seconds.
    """
    try:
        with grpc.insecure_channel(target) as channel:
            stub = embedding_service_pb2_grpc.EmbeddingServiceStub(channel)
            model = stub.GetModel(pb.GetModelRequest(), timeout=timeout, wait_for_ready=True)
            health = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=timeout
            )
    except grpc.RpcError as error:
        raise UnavailableError(
            f"no embedpool server answers at {target} within {timeout:g} s "
            f"({error.code().name}: {error.details()}); is it running there?"
        ) from error
    facts = MessageToDict(model, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    facts["health"] = health_pb2.HealthCheckResponse.ServingStatus.Name(health.status)
    if as_json:
        return json.dumps(facts, ensure_ascii=False, sort_keys=True)
    return "\n".join(_lines("", facts))


def _lines(prefix: str, facts: dict[str, object]) -> list[str]:
    lines = []
    for name, value in sorted(facts.items()):
        if isinstance(value, dict):
            lines += _lines(f"{prefix}{name}.", value)
        else:
            lines.append(f"{prefix}{name}: {value}")
    return lines
