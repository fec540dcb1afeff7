"""JSON files that vouch for themselves: each carries the sha256 of the rest, so no flipped bit goes unseen.

Other files are vouched for by a JSON file that names their sha256. Pure: texts and values, no files.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

_SEAL = "sha256_of_the_rest"


def sealed_json(values: Mapping[str, Any]) -> str:
    """Returns the text of a JSON file of these values with its seal; the same values give the same text."""
    return _text({**values, _SEAL: _digest(values)})


def check_seal(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the values of a sealed file that was parsed; raises ValueError when one was changed."""
    values = {name: value for name, value in raw.items() if name != _SEAL}
    if raw.get(_SEAL) != _digest(values):
        raise ValueError(f"it differs from its {_SEAL}")
    return values


def _digest(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(_text(values).encode()).hexdigest()


def _text(values: Mapping[str, Any]) -> str:
    return json.dumps(values, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
