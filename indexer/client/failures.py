"""What the status of a failed call means, as an error of `indexer.errors`; by the tables of `status`."""

from collections.abc import Mapping
from typing import Any, Final

from google.rpc import error_details_pb2
from grpc_status import rpc_status

from indexer.client import status as statuses
from indexer.client.status import Meaning, Status
from indexer.errors import AwayError, PoolError

# What the library says when a write meets the end of a stream; the server's own status is lost then.
_STATUS_LOST: Final = "Internal error from Core"


def translated(target: str, error: Any, table: Mapping[Status, Meaning], request_id: str) -> PoolError:
    """Returns what a failed call means."""
    code, details = Status(error.code().name), error.details() or "no details"
    # Of a failed connection gRPC tells a whole story, and at its end what happened.
    details = details.rsplit("last error: ", 1)[-1]
    if _STATUS_LOST in details:
        return AwayError(f"worker {target} ended the stream while a batch was sent", request_id=request_id)
    if statuses.meaning(code, details, table) is not None:
        return AwayError(f"worker {target}: {code}: {details}", _retry_after(error), code, request_id)
    return PoolError(f"worker {target} refused: {code}: {details}", code, request_id)


def _retry_after(error: Any) -> float:
    """Returns the seconds of a RetryInfo in the error's details, 0 without one."""
    status = rpc_status.from_call(Ended(error.code(), error.details(), error.trailing_metadata()))
    for detail in status.details if status is not None else ():
        info = error_details_pb2.RetryInfo()
        if detail.Is(info.DESCRIPTOR) and detail.Unpack(info):
            return float(info.retry_delay.ToTimedelta().total_seconds())
    return 0.0


class Ended:
    """A status with the face that `rpc_status.from_call` reads."""

    def __init__(self, code: Any, details: str | None, trailing: Any) -> None:
        self.code, self.details = lambda: code, lambda: details or ""
        self.trailing_metadata = lambda: trailing or ()
