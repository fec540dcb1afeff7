"""The RPC that the running code works for: its id, where it was traced from, and what it has done so far.

A context variable: each RPC is a task of its own, and the tasks that it starts inherit it.
"""

import re
import secrets
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass

REQUEST_ID = "x-request-id"
_SANE = re.compile(r"[A-Za-z0-9._~:/+-]{1,128}")


@dataclass
class Call:
    """One RPC.

    Attributes:
        method: Its full name, `/package.Service/Method`.
        request_id: The caller's, where that is sane; else a new one.
        trace_parent: W3C `traceparent` and `tracestate` of the caller; empty without.
        texts: Texts accepted so far.
        tokens: Tokens of them.
        caller: Name of the token that the caller showed; "" without one.
    """

    method: str
    request_id: str
    trace_parent: Mapping[str, str]
    texts: int = 0
    tokens: int = 0
    caller: str = ""


_current: ContextVar[Call | None] = ContextVar("current_call", default=None)


def begin_call(method: str, metadata: Mapping[str, str | bytes]) -> Call:
    """Makes the RPC of this task known to all that it runs; to be called once, in its task."""
    given = metadata.get(REQUEST_ID)
    request_id = given if isinstance(given, str) and _SANE.fullmatch(given) else secrets.token_hex(16)
    names = ("traceparent", "tracestate")
    parent = {name: value for name in names if isinstance(value := metadata.get(name), str)}
    call = Call(method, request_id, parent)
    _current.set(call)
    return call


def current_call() -> Call | None:
    """Returns the RPC that this code runs for, if it is one."""
    return _current.get()


def count_texts(texts: int, tokens: int) -> None:
    """Counts texts and their tokens as accepted by the current RPC."""
    if (call := _current.get()) is not None:
        call.texts += texts
        call.tokens += tokens
