"""Values of the inputs' columns as JSON. Pure."""

import base64
import json
from collections.abc import Mapping


def as_json(value: object) -> str:
    """Returns a value of a column as JSON: bytes in base 64, dates, times and decimals as their text.

    Numbers that JSON does not know (infinities, no number) are null.
    """
    return json.dumps(plain(value), ensure_ascii=False, allow_nan=False)


def plain(value: object) -> object:
    """Returns a value of a column made of what JSON has."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if value - value == 0 else None
        case bytes():
            return base64.b64encode(value).decode()
        case Mapping():
            return {str(key): plain(of_key) for key, of_key in value.items()}
        case list() | tuple():
            return [plain(one) for one in value]
        case _:
            return value.isoformat() if hasattr(value, "isoformat") else str(value)
