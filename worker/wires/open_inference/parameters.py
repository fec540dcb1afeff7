"""What the parameters of a request may say: read, checked, typed. Pure.

What is not known is refused: a misspelt name would make other vectors in silence.
"""

import difflib
from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

from worker.errors import RequestError
from worker.wires.wanted import InputType, Truncate, Wanted

Value = bool | int | float | str | None

_KNOWN = ("input_type", "truncate", "dimensions", "prompt_name", "embedding_type")
# Clients of Triton set them by arguments of their own; a call's deadline says the first, a class the second.
_READ_OVER = frozenset({"timeout", "priority"})
# Characters of a caller's word that are told back to it; arbitrary.
_SHOWN = 80

_Choice = TypeVar("_Choice", bound=StrEnum)


class _EmbeddingType(StrEnum):
    FLOAT = "float"


def read_parameters(parameters: Mapping[str, Value]) -> Wanted:
    """Reads parameters; None stands for one that came without a value.

    Raises:
        RequestError: One is unknown, of another type or out of range.
    """
    for name in parameters:
        if name not in _KNOWN and name not in _READ_OVER:
            raise RequestError(_unknown(name))
    _choice(parameters, "embedding_type", _EmbeddingType)
    return Wanted(
        input_type=_choice(parameters, "input_type", InputType),
        truncate=_choice(parameters, "truncate", Truncate) or Truncate.END,
        dimensions=_dimensions(parameters.get("dimensions")),
        prompt_name=_string(parameters, "prompt_name"),
    )


def _dimensions(value: Value) -> int:
    if value is None:
        return 0
    if type(value) is not int or value < 0:
        shown = value if type(value) is int else _kind(value)
        raise RequestError(f"parameter dimensions is {shown}, it must be an integer of 0 (all) or more")
    return value


def _string(parameters: Mapping[str, Value], name: str) -> str | None:
    value = parameters.get(name)
    if value is not None and not isinstance(value, str):
        raise RequestError(f"parameter {name} is {_kind(value)}, it must be a string")
    return value


def _choice(parameters: Mapping[str, Value], name: str, choices: type[_Choice]) -> _Choice | None:
    value = _string(parameters, name)
    if value is None:
        return None
    try:
        return choices(value)
    except ValueError:
        wanted = " or ".join(choices)
        raise RequestError(f"parameter {name} is {value[:_SHOWN]!r}, it must be {wanted}") from None


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name[:_SHOWN], _KNOWN, 1)
    advice = f"did you mean {near[0]}?" if near else f"known are {', '.join(_KNOWN)}"
    return f"the parameter {name[:_SHOWN]!r} is not known; {advice}"


def _kind(value: Value) -> str:
    names = {bool: "a boolean", int: "an integer", float: "a double", str: "a string"}
    return names.get(type(value), "without a value")
