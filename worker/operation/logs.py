"""Logs on stderr: one line an event, `key=value` pairs or JSON; never a text of a caller, never a secret.

The code logs with the standard library, `_log.info("process ready slot=%d pid=%d", …)`: an event and its
pairs. As JSON the pairs are members of their own, with their types. What runs for an RPC has its request id.
"""

import json
import logging
import re
import sys
from datetime import UTC, datetime

from worker.requests.calls import current_call
from worker.settings.groups import Log, LogFormat

_PAIR = re.compile(r"\s*\b(\w+)=(%[-.\d]*[a-z])(?=\s|$)")
_PLACE = re.compile(r"%[-.\d]*[a-z]")
# At debug they tell their own inner life, several lines for each RPC.
_TALKATIVE = ("asyncio", "grpc")


class TextFormatter(logging.Formatter):
    """`time=… level=… logger=… event key=value …`, times in UTC, tracebacks on the same line."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns the record as one line."""
        line = f"time={_time(record)} level={record.levelname} logger={record.name} {record.getMessage()}"
        if (call := current_call()) is not None:
            line += f" request_id={call.request_id}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line.replace("\r", "\\r").replace("\n", "\\n")


class JsonFormatter(logging.Formatter):
    """`{"time": …, "level": …, "logger": …, "event": …, key: value, …}`, times in UTC."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns the record as one line."""
        event, pairs = split_pairs(record)
        members: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": event,
        }
        if (call := current_call()) is not None:
            members["request_id"] = call.request_id
        if record.exc_info:
            members["exception"] = self.formatException(record.exc_info)
        return json.dumps(pairs | members, ensure_ascii=False)


def split_pairs(record: logging.LogRecord) -> tuple[str, dict[str, object]]:
    """Returns event and pairs of a message `event key=%d`; one that does not have that form has no pairs."""
    message, values = record.msg, record.args
    if not isinstance(message, str) or not isinstance(values, tuple):
        return record.getMessage(), {}
    found = list(_PLACE.finditer(message))
    if not values or len(found) != len(values):
        return record.getMessage(), {}
    places = {place.start(): value for place, value in zip(found, values, strict=True)}
    pairs: dict[str, object] = {}
    for pair in _PAIR.finditer(message):
        value = places.pop(pair.start(2))
        pairs[pair[1]] = value if isinstance(value, int | float) else str(value)
    return (_PAIR.sub("", message) % tuple(places.values())).strip(), pairs


def is_worth_a_line(record: logging.LogRecord) -> bool:
    """Returns False for gRPC's tracebacks of answers that found their caller gone: that is no error here."""
    kind = record.exc_info[0] if record.exc_info else None
    return kind is None or kind.__name__ != "ExecuteBatchError"


def formatter(form: LogFormat) -> logging.Formatter:
    """Returns what makes a line of a record."""
    return JsonFormatter() if form is LogFormat.JSON else TextFormatter()


def log_to_stderr(log: Log) -> None:
    """Sends the log of this process to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter(log.format))
    handler.addFilter(is_worth_a_line)
    logging.basicConfig(level=log.level.upper(), handlers=[handler])
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(max(logging.INFO, logging.getLogger().level))


def _time(record: logging.LogRecord) -> str:
    return (
        datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )
