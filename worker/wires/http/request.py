"""What a caller of `/v1/embeddings` may say: read from JSON values, checked, typed. Pure.

What is not known is refused, as OpenAI does: a misspelt member would make other vectors in silence.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from worker.wires.http.refusals import BAD_REQUEST, HttpError
from worker.wires.wanted import InputType, Truncate, Wanted

_MEMBERS = (
    "input",
    "model",
    "encoding_format",
    "dimensions",
    "user",
    "input_type",
    "prompt_name",
    "truncate",
)
# Characters of a caller's word that are told back to it; arbitrary.
_SHOWN = 80
_TOKENS = (
    "has token ids: they are numbers of another model's vocabulary and mean nothing to this one. Send "
    "strings; for LangChain's OpenAIEmbeddings set check_embedding_ctx_length=False"
)

_Choice = TypeVar("_Choice", bound=StrEnum)


class Encoding(StrEnum):
    """How the values of a vector are written."""

    FLOAT = "float"  # numbers in JSON
    BASE64 = "base64"  # little-endian float32


@dataclass(frozen=True)
class EmbeddingRequest:
    """A request that can be embedded.

    Attributes:
        texts: One at least.
        model: Name that the caller used.
        encoding: How the values of its vectors are written.
        wanted: How they are to be embedded.
    """

    texts: Sequence[str]
    model: str
    encoding: Encoding
    wanted: Wanted

    @property
    def is_query(self) -> bool:
        """Whether it goes before bulk work."""
        return self.wanted.is_query(len(self.texts))


def read_request(value: object, max_inputs: int) -> EmbeddingRequest:
    """Reads a request from what its JSON holds.

    Raises:
        HttpError: A member is missing, unknown or of another type; its name and what it must be are told.
    """
    if not isinstance(value, Mapping):
        raise HttpError(
            BAD_REQUEST, f"the body is {_kind(value)}, it must be a JSON object with input and model"
        )
    for name in value:
        if name not in _MEMBERS:
            raise HttpError(BAD_REQUEST, _unknown(str(name)), str(name)[:_SHOWN])
    members = {name: member for name, member in value.items() if member is not None}
    return EmbeddingRequest(
        texts=_texts(members.get("input"), max_inputs),
        model=_string(members, "model", required=True) or "",
        encoding=_choice(members, "encoding_format", Encoding) or Encoding.FLOAT,
        wanted=Wanted(
            input_type=_choice(members, "input_type", InputType),
            truncate=_choice(members, "truncate", Truncate) or Truncate.END,
            dimensions=_dimensions(members.get("dimensions")),
            prompt_name=_string(members, "prompt_name"),
        ),
    )


def _texts(value: object, max_inputs: int) -> Sequence[str]:
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list):
        said = "is missing" if value is None else f"is {_kind(value)}"
        raise HttpError(BAD_REQUEST, f"input {said}, it must be a string or an array of strings", "input")
    if not value:
        raise HttpError(BAD_REQUEST, "input is an empty array; send one text at least", "input")
    if len(value) > max_inputs:
        raise HttpError(
            BAD_REQUEST, f"input has {len(value)} texts, the limit http.max_inputs is {max_inputs}", "input"
        )
    for index, text in enumerate(value):
        if not isinstance(text, str):
            wrong = _TOKENS if _is_tokens(value) else f"is {_kind(text)}, it must be a string"
            raise HttpError(BAD_REQUEST, f"input[{index}] {wrong}", "input")
    return value


def _is_tokens(texts: Sequence[object]) -> bool:
    return all(type(one) is int for one in texts) or all(
        isinstance(one, list) and all(type(token) is int for token in one) for one in texts
    )


def _dimensions(value: object) -> int:
    if value is None:
        return 0
    if type(value) is not int or value < 1:
        shown = value if type(value) is int else _kind(value)
        raise HttpError(
            BAD_REQUEST, f"dimensions is {shown}, it must be an integer of 1 or more", "dimensions"
        )
    return value


def _string(members: Mapping[object, object], name: str, *, required: bool = False) -> str | None:
    value = members.get(name)
    if value is None and not required:
        return None
    if not isinstance(value, str):
        said = "is missing" if value is None else f"is {_kind(value)}"
        raise HttpError(BAD_REQUEST, f"{name} {said}, it must be a string", name)
    return value


def _choice(members: Mapping[object, object], name: str, choices: type[_Choice]) -> _Choice | None:
    value = _string(members, name)
    if value is None:
        return None
    try:
        return choices(value)
    except ValueError:
        wanted = " or ".join(choices)
        raise HttpError(BAD_REQUEST, f"{name} is {value[:_SHOWN]!r}, it must be {wanted}", name) from None


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name[:_SHOWN], _MEMBERS, 1)
    advice = f"did you mean {near[0]}?" if near else f"known are {', '.join(_MEMBERS)}"
    return f"the body has the unknown member {name[:_SHOWN]!r}; {advice}"


def _kind(value: object) -> str:
    """Names a JSON value without showing it: it may be somebody's text."""
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
