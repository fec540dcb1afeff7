"""What the parameters of a request may say: read, checked, typed. Pure.

What is not known is refused: a misspelt name would make other vectors in silence.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from worker.errors import RequestError
from worker.models import Model
from worker.requests.intake import Options, check_dimensions, find_prompt

Value = bool | int | float | str | None

_KNOWN = ("input_type", "truncate", "dimensions", "prompt_name", "embedding_type")
# Clients of Triton set them by arguments of their own; a call's deadline says the first, a class the second.
_READ_OVER = frozenset({"timeout", "priority"})
# Characters of a caller's word that are told back to it; arbitrary.
_SHOWN = 80

_Choice = TypeVar("_Choice", bound=StrEnum)


class InputType(StrEnum):
    """What the texts are; it puts the model's prompt for them in front, and picks their class."""

    QUERY = "query"
    PASSAGE = "passage"
    DOCUMENT = "document"  # another word for passage


class Truncate(StrEnum):
    """What becomes of a text that is longer than the model reads."""

    END = "END"  # its end is cut off
    START = "START"  # its beginning is
    NONE = "NONE"  # it is refused


class _EmbeddingType(StrEnum):
    FLOAT = "float"


@dataclass(frozen=True)
class Wanted:
    """How the texts of a request are to be embedded.

    Attributes:
        input_type: What they are; None where the caller did not say.
        truncate: What becomes of those that are too long.
        dimensions: Leading dimensions to keep; 0 for all.
        prompt_name: Name of the model's prompt to put in front, "" for none; None where nothing was said.
    """

    input_type: InputType | None = None
    truncate: Truncate = Truncate.END
    dimensions: int = 0
    prompt_name: str | None = None

    def is_query(self, texts: int) -> bool:
        """Tells whether so many texts go before bulk work: what the caller says, else a single text does."""
        return texts == 1 if self.input_type is None else self.input_type is InputType.QUERY

    def options(self, model: Model) -> Options:
        """Returns how a model is to embed them.

        Raises:
            RequestError: The model has no such prompt, or fewer dimensions.
        """
        manifest, default = model.manifest, ""
        if self.input_type is not None:
            is_query = self.input_type is InputType.QUERY
            default = manifest.query_prompt if is_query else manifest.document_prompt
        return Options(
            dimensions=check_dimensions(manifest, self.dimensions),
            prompt=find_prompt(manifest, self.prompt_name, default),
            reject_long=self.truncate is Truncate.NONE,
            keep_end=self.truncate is Truncate.START,
        )


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
