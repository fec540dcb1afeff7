"""A log line is one line, as text or as JSON, and knows its request."""

import contextvars
import json
import logging
import sys
from typing import Any

from worker.operation.logs import formatter, is_worth_a_line
from worker.requests.calls import begin_call
from worker.settings.groups import LogFormat


def record_of(error: Exception) -> logging.LogRecord:
    """Makes the record of an error that was raised."""
    try:
        raise error
    except type(error):
        return logging.LogRecord("worker.x", logging.ERROR, "x.py", 1, "it failed a=%d", (1,), sys.exc_info())


def record(message: str, *values: Any) -> logging.LogRecord:
    """Makes a record as a logger does."""
    return logging.LogRecord("worker.x", logging.INFO, "x.py", 1, message, values, None)


def as_json(one: logging.LogRecord) -> dict[str, Any]:
    """Returns the members of a line in JSON, without those that each has."""
    line = formatter(LogFormat.JSON).format(one)
    assert "\n" not in line
    members: dict[str, Any] = json.loads(line)
    assert members.pop("time").endswith("Z")
    assert members.pop("logger") == "worker.x"
    assert members.pop("level") in ("info", "error")
    return members


def test_traceback_stays_on_its_line() -> None:
    """Whoever reads the log line by line gets the traceback with its event, in UTC."""
    line = formatter(LogFormat.TEXT).format(record_of(ValueError("two\nlines")))
    assert "\n" not in line
    assert "level=ERROR logger=worker.x it failed a=1" in line
    assert "ValueError: two" in line
    assert line.split()[0].startswith("time=")
    assert line.split()[0].endswith("Z")


def test_traceback_is_a_member_of_json() -> None:
    """A traceback in JSON is text of its own, beside the event."""
    members = as_json(record_of(ValueError("two\nlines")))
    assert members["event"] == "it failed"
    assert members["a"] == 1
    assert "ValueError: two\nlines" in members["exception"]


def test_pairs_are_members_with_their_types() -> None:
    """A program that reads the log gets numbers as numbers and texts without quotes."""
    members = as_json(record("process gone slot=%d after_s=%.2f why=%r", 3, 0.25, "killed by 9"))
    assert members == {"event": "process gone", "slot": 3, "after_s": 0.25, "why": "killed by 9"}


def test_prose_stays_whole_and_keeps_its_pairs() -> None:
    """A message that is a sentence is the event, and no pair of it replaces a fixed member."""
    members = as_json(record("process %d loaded model=%s level=%s", 7, "m", "x"))
    assert members == {"event": "process 7 loaded", "model": "m"}
    assert as_json(record("100% done a=b")) == {"event": "100% done a=b"}


def test_lines_of_a_request_carry_its_id() -> None:
    """Every line that is logged for an RPC can be found by the id that its caller got."""

    def lines() -> tuple[str, str]:
        begin_call("/a/B", {"x-request-id": "abc-1"})
        return tuple(formatter(form).format(record("it ran")) for form in LogFormat)  # type: ignore[return-value]

    text, encoded = contextvars.copy_context().run(lines)
    assert text.endswith(" it ran request_id=abc-1")
    assert json.loads(encoded)["request_id"] == "abc-1"
    assert "request_id" not in formatter(LogFormat.TEXT).format(record("it ran"))


def test_id_that_could_break_a_line_is_replaced() -> None:
    """A caller cannot write into the log: an id of other characters or of great length is not taken."""
    for bad in ("a b", "a\nlevel=ERROR", "", "x" * 129, 'a"b'):
        run = contextvars.copy_context().run
        call = run(begin_call, "/a/B", {"x-request-id": bad})
        assert call.request_id != bad
        assert len(call.request_id) == 32


def test_caller_that_left_is_no_error() -> None:
    """GRPC's own error for an answer whose caller is gone is left out; all else is kept."""
    gone = type("ExecuteBatchError", (Exception,), {})
    assert not is_worth_a_line(record_of(gone("gone")))
    assert is_worth_a_line(record_of(ValueError("real")))
