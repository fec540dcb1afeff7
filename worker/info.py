"""Asks a running server what it serves."""

import json
from dataclasses import dataclass

import grpc
from google.protobuf.json_format import MessageToDict
from grpc_health.v1 import health_pb2, health_pb2_grpc

from embedpool.v1 import embedding_service_pb2 as pb
from embedpool.v1 import embedding_service_pb2_grpc
from worker.errors import UnavailableError

_SERVING = health_pb2.HealthCheckResponse.SERVING


@dataclass(frozen=True)
class Description:
    """What a server says of itself: `text` for people or as JSON, and whether it can embed now."""

    text: str
    health: str
    serving: bool


def describe(target: str, timeout: float, *, as_json: bool) -> Description:
    """Asks the server at `target` for its model, its limits and its health.

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
    text = json.dumps(facts, ensure_ascii=False, sort_keys=True) if as_json else "\n".join(_lines("", facts))
    return Description(text, str(facts["health"]), health.status == _SERVING)


def _lines(prefix: str, facts: dict[str, object]) -> list[str]:
    lines = []
    for name, value in sorted(facts.items()):
        if isinstance(value, dict):
            lines += _lines(f"{prefix}{name}.", value)
        else:
            lines.append(f"{prefix}{name}: {value}")
    return lines
