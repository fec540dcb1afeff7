"""Logs on stderr: one line an event, `key=value` pairs or JSON; never a text of a caller, never a secret.

The code logs with the standard library, `_log.info("process ready slot=%d pid=%d", …)`: an event and its
pairs. As JSON the pairs are members of their own, with their types. What runs for an RPC has its request id.
"""

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

from worker.calls import current_call
from worker.config import Log, LogFormat

_Event = MutableMapping[str, Any]
_PAIR = re.compile(r"\s*\b(\w+)=(%[-.\d]*[a-z])(?=\s|$)")
_PLACE = re.compile(r"%[-.\d]*[a-z]")


def is_worth_a_line(record: logging.LogRecord) -> bool:
    """Returns False for gRPC's tracebacks of answers that found their caller gone: that is no error here."""
    kind = record.exc_info[0] if record.exc_info else None
    return kind is None or kind.__name__ != "ExecuteBatchError"


def formatter(form: LogFormat) -> logging.Formatter:
    """Returns what makes a line of a record, in UTC, tracebacks on the same line."""
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        _add_request_id,
    ]
    final: list[Any] = [_as_text]
    if form is LogFormat.JSON:
        shared.append(_split_pairs)
        final = [
            structlog.processors.format_exc_info,
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.JSONRenderer(ensure_ascii=False, default=str),
        ]
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared, processors=final, pass_foreign_args=True
    )


def log_to_stderr(log: Log) -> None:
    """Sends the log of this process to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter(log.format))
    handler.addFilter(is_worth_a_line)
    logging.basicConfig(level=log.level.upper(), handlers=[handler])


def _add_request_id(logger: object, method: str, event: _Event) -> _Event:
    if (call := current_call()) is not None:
        event["request_id"] = call.request_id
    return event


def _split_pairs(logger: object, method: str, event: _Event) -> _Event:
    """Takes the pairs of `event key=%d` out of the message; one that does not have that form stays whole."""
    message: object = event["_record"].msg
    arguments = event.pop("positional_args", ())
    if not isinstance(message, str) or not isinstance(arguments, tuple) or not arguments:
        return event
    found = list(_PLACE.finditer(message))
    if len(found) != len(arguments):
        return event
    places = {place.start(): value for place, value in zip(found, arguments, strict=True)}
    for pair in _PAIR.finditer(message):
        value = places.pop(pair.start(2))
        event.setdefault(pair[1], value if isinstance(value, int | float) else str(value))
    event["event"] = (_PAIR.sub("", message) % tuple(places.values())).strip()
    return event


def _as_text(logger: object, method: str, event: _Event) -> str:
    record: logging.LogRecord = event["_record"]
    line = f"time={event['time']} level={record.levelname} logger={record.name} {event['event']}"
    if "request_id" in event:
        line += f" request_id={event['request_id']}"
    if event.get("exc_info"):
        line += "\n" + logging.Formatter().formatException(event["exc_info"])
    return line.replace("\r", "\\r").replace("\n", "\\n")
