"""Which answer an error becomes over HTTP: one table, in OpenAI's form. Pure.

Each row also names the gRPC status that says the same: logs and metrics know one vocabulary for all wires.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from worker.errors import OverloadError, RequestError, UnavailableError, WorkerError
from worker.wires.wording import Words, reworded

Headers = tuple[tuple[str, str], ...]

# Seconds after which a caller that was sent away may try again; arbitrary: a pool that starts takes longer,
# one that drains is not waited for.
_UNAVAILABLE_SECONDS = 1.0
_WORDS = Words(text="input[{}]", texts="input")
# Members of a request with which a message may begin.
_ABOUT = re.compile(r"input\b|dimensions\b|prompt_name\b")


@dataclass(frozen=True)
class Kind:
    """A row of the table.

    Attributes:
        http: HTTP status.
        type: What OpenAI calls it.
        code: OpenAI's word for the reason, or ours; "" for none.
        grpc: Name of the gRPC status.
        again: Whether the same request may succeed later; clients that retry by themselves are told.
    """

    http: int
    type: str
    code: str
    grpc: str
    again: bool = False


_INVALID = "invalid_request_error"
BAD_REQUEST = Kind(400, _INVALID, "", "INVALID_ARGUMENT")
NO_TOKEN = Kind(401, _INVALID, "invalid_api_key", "UNAUTHENTICATED")
NO_MODEL = Kind(404, _INVALID, "model_not_found", "NOT_FOUND")
NO_PATH = Kind(404, _INVALID, "unknown_url", "NOT_FOUND")
WRONG_METHOD = Kind(405, _INVALID, "method_not_allowed", "UNIMPLEMENTED")
TOO_SLOW = Kind(408, _INVALID, "request_timeout", "DEADLINE_EXCEEDED")
TOO_LARGE = Kind(413, _INVALID, "request_too_large", "INVALID_ARGUMENT")
NOT_JSON = Kind(415, _INVALID, "unsupported_media_type", "INVALID_ARGUMENT")
OVERLOADED = Kind(429, "rate_limit_error", "rate_limit_exceeded", "RESOURCE_EXHAUSTED", again=True)
FAILED = Kind(500, "server_error", "internal_error", "INTERNAL")
UNAVAILABLE = Kind(503, "server_error", "unavailable", "UNAVAILABLE", again=True)

KINDS: Mapping[type[WorkerError], Kind] = {
    RequestError: BAD_REQUEST,
    OverloadError: OVERLOADED,
    UnavailableError: UNAVAILABLE,
}


class HttpError(WorkerError):
    """What an HTTP caller is told.

    Attributes:
        kind: Row of the table.
        param: Member of the request that it is about; "" for none.
        headers: Further headers of the answer.
    """

    def __init__(self, kind: Kind, message: str, param: str = "", headers: Headers = ()) -> None:
        super().__init__(message)
        self.kind = kind
        self.param = param
        self.headers = headers

    def body(self) -> dict[str, object]:
        """Returns the answer's JSON object."""
        kind = self.kind
        error = {
            "message": str(self),
            "type": kind.type,
            "param": self.param or None,
            "code": kind.code or None,
        }
        return {"error": error}


def http_error_of(error: WorkerError) -> HttpError:
    """Returns what a caller is told of an error; what the table does not name is the server's own fault."""
    if isinstance(error, HttpError):
        return error
    kind = KINDS.get(type(error), FAILED)
    message = str(reworded(error, _WORDS))
    about = _ABOUT.match(message)
    return HttpError(kind, message, about[0] if about else "", _headers(kind, error))


def first_bad(errors: Mapping[int, WorkerError], total: int) -> HttpError:
    """Returns what a caller is told whose request has bad texts: an answer has a vector for each, or none.

    Args:
        errors: Error of each bad text by its index; one at least.
        total: How many texts the request has.
    """
    index, *others = sorted(errors)
    kind = KINDS.get(type(errors[index]), FAILED)
    message = f"input[{index}]: {errors[index]}"
    if others:
        message += f" ({1 + len(others)} of the {total} texts are bad: {_some([index, *others])})"
    return HttpError(kind, message, "input", _headers(kind, errors[index]))


def _some(indices: Sequence[int], most: int = 10) -> str:
    shown = ", ".join(map(str, indices[:most]))
    return shown + (", …" if len(indices) > most else "")


def _headers(kind: Kind, error: WorkerError) -> Headers:
    if kind.again:
        seconds = error.retry_after if isinstance(error, OverloadError) else _UNAVAILABLE_SECONDS
        # Whole seconds are all that HTTP knows; OpenAI's clients read the finer one first.
        exact = ("retry-after-ms", str(max(1, math.ceil(seconds * 1000))))
        return (("retry-after", str(max(1, math.ceil(seconds)))), exact)
    # OpenAI's clients repeat what failed with 500 unless told otherwise, and a text that ended two processes
    # would end more.
    return (("x-should-retry", "false"),) if kind is FAILED else ()
