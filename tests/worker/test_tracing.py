"""What becomes a span: the stages of texts, and who is told."""

import contextvars
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence

from hypothesis import given
from hypothesis import strategies as st

from worker.requests.calls import Call, Stage, begin_call, note_batch, note_query, stages_of

TIMES = st.lists(st.integers(1, 10**12), min_size=5, max_size=5).map(sorted)


class Recording:
    """Keeps what is recorded."""

    def __init__(self) -> None:
        self.spans: list[tuple[Stage, Sequence[Stage], Mapping[str, str | int]]] = []

    def record(
        self, call: Call, whole: Stage, parts: Sequence[Stage], facts: Mapping[str, str | int]
    ) -> None:
        """Keeps a span."""
        self.spans.append((whole, parts, facts))


@given(TIMES)
def test_stages_follow_each_other(times: list[int]) -> None:
    """Waiting begins where texts were queued and ends where the first run begins."""
    began, tokenized, queued, run_began, run_ended = times
    assert stages_of(began, tokenized, queued, run_began, run_ended) == [
        Stage("tokenize", began, tokenized),
        Stage("queue", queued, run_began),
        Stage("run", run_began, run_ended),
    ]


def test_stages_of_texts_that_never_ran() -> None:
    """Refused texts are tokenized, no more; runs of windows in parallel begin no earlier than the wait."""
    assert [stage.name for stage in stages_of(1, 2, 2, 0, 0)] == ["tokenize"]
    assert stages_of(1, 2, 3, 1, 9)[1:] == [Stage("queue", 3, 3), Stage("run", 3, 9)]


def test_batch_is_a_span_and_counts() -> None:
    """A batch is recorded at once, with how many texts and tokens; a query is kept for its RPC's own span."""

    def run() -> tuple[Call, Recording]:
        recording = Recording()
        call = begin_call("/a.B/C", {"traceparent": "00-1", "x-request-id": "r"}, recording)
        note_batch(2, 9, "f", [Stage("tokenize", 1, 2)])
        note_batch(1, 4, "f", [Stage("tokenize", 3, 4)])
        return call, recording

    call, recording = contextvars.copy_context().run(run)
    assert (call.texts, call.tokens, call.trace_parent) == (3, 13, {"traceparent": "00-1"})
    assert [whole.name for whole, _, _ in recording.spans] == ["a.B/C batch"] * 2
    assert recording.spans[0][2] == {
        "embedpool.texts": 2,
        "embedpool.tokens": 9,
        "embedpool.model.fingerprint": "f",
    }


def test_nothing_is_noted_outside_of_an_rpc() -> None:
    """Code that runs for no RPC may note what it does; nobody listens."""

    def run() -> None:
        note_query(1, 2, "f", [])
        note_batch(1, 2, "f", [])

    contextvars.Context().run(run)


def test_worker_loads_no_opentelemetry() -> None:
    """Who does not trace does not pay for it, and needs it not installed."""
    code = "import worker.__main__, sys; print([name for name in sys.modules if 'opentelemetry' in name])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env={**os.environ}
    )
    assert done.stdout.strip() == "[]", done.stderr
