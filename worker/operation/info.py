"""Asks a running server what it serves, how it does, and to take over another model."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2, health_pb2_grpc

from embedpool.v1 import admin_service_pb2 as admin
from embedpool.v1 import admin_service_pb2_grpc, embedding_service_pb2_grpc
from embedpool.v1 import embedding_service_pb2 as pb
from worker.operation.dial import Dial

_SERVING = health_pb2.HealthCheckResponse.SERVING


@dataclass(frozen=True)
class Description:
    """What a server says of itself: `text` for people or as JSON, and whether it can embed now."""

    text: str
    health: str
    serving: bool


def describe(dial: Dial, *, as_json: bool, statistics: bool = False) -> Description:
    """Asks a server for its model, its limits and its health, and for its statistics where wanted.

    Raises:
        ConfigError: A file of `dial` cannot be read.
        UnavailableError: No server answers there, or it refuses.
    """
    with dial.channel() as channel:
        stub = embedding_service_pb2_grpc.EmbeddingServiceStub(channel)
        facts = _facts(dial.ask(stub.GetModel, pb.GetModelRequest()))
        health = dial.ask(health_pb2_grpc.HealthStub(channel).Check, health_pb2.HealthCheckRequest())
        if statistics:
            asked = admin_service_pb2_grpc.AdminServiceStub(channel).GetStatistics
            facts["statistics"] = _facts(dial.ask(asked, admin.GetStatisticsRequest()))
    facts["health"] = health_pb2.HealthCheckResponse.ServingStatus.Name(health.status)
    return Description(_text(facts, as_json=as_json), str(facts["health"]), health.status == _SERVING)


def ask_to_reload(dial: Dial, bundle: Path | None, *, as_json: bool) -> str:
    """Has a server take over the bundle at a path of its machine, or the one it serves read again.

    Raises:
        ConfigError: A file of `dial` cannot be read.
        UnavailableError: No server answers there, or it refuses.
    """
    with dial.channel() as channel:
        stub = admin_service_pb2_grpc.AdminServiceStub(channel)
        path = "" if bundle is None else str(bundle)
        return _text(_facts(dial.ask(stub.Reload, admin.ReloadRequest(bundle=path))), as_json=as_json)


def _facts(message: Message) -> dict[str, Any]:
    return MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


def _text(facts: dict[str, Any], *, as_json: bool) -> str:
    return json.dumps(facts, ensure_ascii=False, sort_keys=True) if as_json else "\n".join(_lines("", facts))


def _lines(prefix: str, facts: dict[str, Any]) -> list[str]:
    lines = []
    for name, value in sorted(facts.items()):
        if isinstance(value, dict):
            lines += _lines(f"{prefix}{name}.", value)
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for index, one in enumerate(value):
                lines += _lines(f"{prefix}{name}[{index}].", one)
        else:
            lines.append(f"{prefix}{name}: {value}")
    return lines
