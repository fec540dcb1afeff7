"""Logs on stderr: one line an event, `key=value` pairs; never a text of a caller."""

import logging
import sys
import time


class _KeyValue(logging.Formatter):
    """`time=… level=… logger=… event key=value …`, times in UTC."""

    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def __init__(self) -> None:
        super().__init__("time=%(asctime)s level=%(levelname)s logger=%(name)s %(message)s")
        self.converter = time.gmtime


def log_to_stderr(level: str) -> None:
    """Sends the log of this process to stderr from `level` up."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_KeyValue())
    logging.basicConfig(level=level.upper(), handlers=[handler])
