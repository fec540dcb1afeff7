"""A log line is one line."""

import logging
import sys

from worker.logs import KeyValueFormatter, is_worth_a_line


def record_of(error: Exception) -> logging.LogRecord:
    """Makes the record of an error that was raised."""
    try:
        raise error
    except type(error):
        return logging.LogRecord("worker.x", logging.ERROR, "x.py", 1, "it failed a=%d", (1,), sys.exc_info())


def test_traceback_stays_on_its_line() -> None:
    """Whoever reads the log line by line gets the traceback with its event, in UTC."""
    line = KeyValueFormatter().format(record_of(ValueError("two\nlines")))
    assert "\n" not in line
    assert "level=ERROR logger=worker.x it failed a=1" in line
    assert "ValueError: two" in line
    assert line.split()[0].endswith("Z")


def test_caller_that_left_is_no_error() -> None:
    """GRPC's own error for an answer whose caller is gone is left out; all else is kept."""
    gone = type("ExecuteBatchError", (Exception,), {})
    assert not is_worth_a_line(record_of(gone("gone")))
    assert is_worth_a_line(record_of(ValueError("real")))
