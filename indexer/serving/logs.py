"""Logs on stderr: one line an event, `event key=value …`; never a text of a caller, never a secret."""

import logging
import sys
from datetime import UTC, datetime

LEVELS = ("debug", "info", "warning", "error")
_TALKATIVE = ("asyncio", "grpc")  # at debug they tell their own inner life, several lines for each call


class LineFormatter(logging.Formatter):
    """`time=… level=… logger=… event key=value …`, times in UTC, tracebacks on the same line."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns the record as one line."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = f"time={time.replace('+00:00', 'Z')} level={record.levelname} logger={record.name} "
        line += record.getMessage()
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line.replace("\r", "\\r").replace("\n", "\\n")


def log_to_stderr(level: str) -> None:
    """Sends the log of this process to stderr, from one of `LEVELS` up."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler])
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(max(logging.INFO, logging.getLogger().level))
