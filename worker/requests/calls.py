"""The RPC that the running code works for: its id, where it was traced from, and what it has done so far.

A context variable: each RPC is a task of its own, and the tasks that it starts inherit it. Times are those of
`time.perf_counter_ns`.
"""

import re
import secrets
import time
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Protocol

REQUEST_ID = "x-request-id"
_SANE = re.compile(r"[A-Za-z0-9._~:/+-]{1,128}")


@dataclass(frozen=True)
class Stage:
    """A part of the road of texts, with its begin and its end."""

    name: str
    start_ns: int
    end_ns: int


class Recorder(Protocol):
    """Who takes traces down."""

    def record(
        self, call: "Call", whole: Stage, parts: Sequence[Stage], facts: Mapping[str, str | int]
    ) -> None:
        """Takes down that something of an RPC happened: a span, with a span in it for each of its parts."""


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
        recorder: Who takes its trace down; None where nobody does.
        stages: What it went through so far, for its own span; a stream's batches have spans of their own.
        fingerprint: Model that it was computed by; "" before.
    """

    method: str
    request_id: str
    trace_parent: Mapping[str, str]
    texts: int = 0
    tokens: int = 0
    caller: str = ""
    recorder: Recorder | None = None
    stages: list[Stage] = field(default_factory=list)
    fingerprint: str = ""


_current: ContextVar[Call | None] = ContextVar("current_call", default=None)


def begin_call(method: str, metadata: Mapping[str, str | bytes], recorder: Recorder | None = None) -> Call:
    """Makes the RPC of this task known to all that it runs; to be called once, in its task."""
    given = metadata.get(REQUEST_ID)
    request_id = given if isinstance(given, str) and _SANE.fullmatch(given) else secrets.token_hex(16)
    names = ("traceparent", "tracestate")
    parent = {name: value for name in names if isinstance(value := metadata.get(name), str)}
    call = Call(method, request_id, parent, recorder=recorder)
    _current.set(call)
    return call


def current_call() -> Call | None:
    """Returns the RPC that this code runs for, if it is one."""
    return _current.get()


def note_query(texts: int, tokens: int, fingerprint: str, stages: Sequence[Stage]) -> None:
    """Notes what the current RPC computed: one that is answered once."""
    if (call := _current.get()) is not None:
        call.texts, call.tokens, call.fingerprint = texts, tokens, fingerprint
        call.stages.extend(stages)


def note_batch(texts: int, tokens: int, fingerprint: str, stages: Sequence[Stage]) -> None:
    """Notes what the current RPC computed beside other batches; where it is traced it becomes a span."""
    if (call := _current.get()) is not None:
        call.texts += texts
        call.tokens += tokens
        if call.recorder is not None:
            whole = Stage(f"{call.method.lstrip('/')} batch", stages[0].start_ns, time.perf_counter_ns())
            call.recorder.record(call, whole, stages, facts_of(texts, tokens, fingerprint))


def facts_of(texts: int, tokens: int, fingerprint: str) -> dict[str, str | int]:
    """Returns what a trace tells of texts: how many, never what is in them."""
    return {
        "embedpool.texts": texts,
        "embedpool.tokens": tokens,
        "embedpool.model.fingerprint": fingerprint,
    }


def stages_of(began: int, tokenized: int, queued: int, run_began: int, run_ended: int) -> list[Stage]:
    """Returns the stages of texts that were tokenized, queued and computed; without runs only the first."""
    stages = [Stage("tokenize", began, tokenized)]
    if run_ended:
        # Runs of a text's windows overlap, so that their sum may begin before they were queued.
        first = max(queued, run_began)
        stages += [Stage("queue", queued, first), Stage("run", first, run_ended)]
    return stages
