"""Logs on stderr: one line an event, `key=value` pairs; never a text of a caller."""

import logging
import sys
import time


class KeyValueFormatter(logging.Formatter):
    """`time=… level=… logger=… event key=value …`, times in UTC, tracebacks on the same line."""

    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def __init__(self) -> None:
        super().__init__("time=%(asctime)s level=%(levelname)s logger=%(name)s %(message)s")
        self.converter = time.gmtime

    def format(self, record: logging.LogRecord) -> str:
        """Returns the record as one line."""
        return super().format(record).replace("\n", "\\n")


def is_worth_a_line(record: logging.LogRecord) -> bool:
    """Returns False for gRPC's tracebacks of answers that found their caller gone: that is no error here."""
    kind = record.exc_info[0] if record.exc_info else None
    return kind is None or kind.__name__ != "ExecuteBatchError"


def log_to_stderr(level: str) -> None:
    """Sends the log of this process to stderr from `level` up."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(KeyValueFormatter())
    handler.addFilter(is_worth_a_line)
    logging.basicConfig(level=level.upper(), handlers=[handler])
