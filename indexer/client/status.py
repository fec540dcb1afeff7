"""What the statuses of a pool mean for a caller: the one table. Pure."""

from collections.abc import Mapping
from enum import Enum, StrEnum
from typing import Final


class Status(StrEnum):
    """The statuses of gRPC, as `code` of errors and documents names them."""

    OK = "OK"
    CANCELLED = "CANCELLED"
    UNKNOWN = "UNKNOWN"
    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    NOT_FOUND = "NOT_FOUND"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    FAILED_PRECONDITION = "FAILED_PRECONDITION"
    ABORTED = "ABORTED"
    OUT_OF_RANGE = "OUT_OF_RANGE"
    UNIMPLEMENTED = "UNIMPLEMENTED"
    INTERNAL = "INTERNAL"
    UNAVAILABLE = "UNAVAILABLE"
    DATA_LOSS = "DATA_LOSS"
    UNAUTHENTICATED = "UNAUTHENTICATED"


class Meaning(Enum):
    """What to do about a status that time or another pool may mend; any other one is final."""

    AWAY = "set the pool aside until it answers again, and ask another"
    BUSY = "the pool is well: ask another, or this one after the time it asks for"


# Embedding has no side effects, so a call may always be sent again; the question is whether that helps.
# INTERNAL is final: that text ended two processes of a pool and would do so to the next. UNKNOWN is what a
# server's own mistake looks like, which repeats.
CALL: Final[Mapping[Status, Meaning]] = {
    Status.UNAVAILABLE: Meaning.AWAY,
    Status.CANCELLED: Meaning.AWAY,  # by a proxy or a server that stops: this side raises otherwise
    Status.DEADLINE_EXCEEDED: Meaning.AWAY,
    Status.RESOURCE_EXHAUSTED: Meaning.BUSY,
    Status.ABORTED: Meaning.BUSY,
}

# Of a whole stream INTERNAL and UNKNOWN are mostly a connection that broke on the way; a document that ends
# processes has its own status. A stream that ends well while answers are owed is one that broke.
STREAM: Final[Mapping[Status, Meaning]] = {
    **CALL,
    Status.INTERNAL: Meaning.AWAY,
    Status.UNKNOWN: Meaning.AWAY,
    Status.OK: Meaning.AWAY,
}

# gRPC itself says RESOURCE_EXHAUSTED of a message that is too large; no waiting makes it smaller.
TOO_LARGE: Final = "larger than max"


def meaning(status: Status, details: str, table: Mapping[Status, Meaning]) -> Meaning | None:
    """Returns what to do about a status by a table, None when it is final."""
    return None if TOO_LARGE in details else table.get(status)
