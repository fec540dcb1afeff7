"""From errors to gRPC statuses."""

from collections.abc import Mapping
from typing import NoReturn

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from worker.errors import (
    BundleError,
    ModelError,
    NotServedError,
    OverloadError,
    PoisonError,
    ReloadRunningError,
    RequestError,
    TokenizerError,
    UnavailableError,
    WorkerError,
)

Table = Mapping[type[WorkerError], grpc.StatusCode]

STATUS: Table = {
    RequestError: grpc.StatusCode.INVALID_ARGUMENT,
    NotServedError: grpc.StatusCode.NOT_FOUND,
    OverloadError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    UnavailableError: grpc.StatusCode.UNAVAILABLE,
    PoisonError: grpc.StatusCode.INTERNAL,
    ModelError: grpc.StatusCode.INTERNAL,
    TokenizerError: grpc.StatusCode.INTERNAL,
    BundleError: grpc.StatusCode.FAILED_PRECONDITION,
    ReloadRunningError: grpc.StatusCode.ABORTED,
}


def status_of(error: WorkerError, table: Table = STATUS) -> grpc.StatusCode:
    """Returns the status of an error; what the table does not name is INTERNAL."""
    return table.get(type(error), grpc.StatusCode.INTERNAL)


async def abort(context: grpc.aio.ServicerContext, error: WorkerError, table: Table = STATUS) -> NoReturn:
    """Ends an RPC with the status of an error; an overload says in its details when to try again."""
    code = status_of(error, table)
    status = Status(code=code.value[0], message=str(error))
    if isinstance(error, OverloadError):
        delay = Duration()
        delay.FromNanoseconds(int(error.retry_after * 1e9))
        status.details.add().Pack(RetryInfo(retry_delay=delay))
    rich = rpc_status.to_status(status)
    await context.abort(code, str(error), (*context.trailing_metadata(), *rich.trailing_metadata))
    raise AssertionError("abort always raises")
