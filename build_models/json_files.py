"""Reads the JSON files of a model's folder; what is wrong with one is named with its path."""

import json
from pathlib import Path
from typing import Any

from build_models.errors import SourceError


def read_json(path: Path, *, missing_is_empty: bool = False) -> dict[str, Any]:
    """Returns the object in a JSON file.

    Raises:
        SourceError: The file cannot be read or holds no object.
    """
    if missing_is_empty and not path.exists():
        return {}
    value = read_any_json(path)
    if not isinstance(value, dict):
        raise SourceError(f"{path} holds no JSON object; the model folder is damaged")
    return value


def read_any_json(path: Path) -> Any:
    """Returns what a JSON file holds.

    Raises:
        SourceError: The file cannot be read or holds no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SourceError(f"cannot read {path} ({error.strerror}); the model folder is incomplete") from error
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{path} is not JSON ({error}); the model folder is damaged") from error
