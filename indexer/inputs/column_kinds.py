"""Which columns hold text and ids, whatever type their writer chose, and their values as bytes."""

from typing import Any

import pyarrow as pa


def is_text(kind: Any) -> bool:
    """Whether values of an Arrow type are text; a column without any value has no type of its own."""
    types = pa.types
    kind = kind.value_type if types.is_dictionary(kind) else kind
    return any(
        test(kind)
        for test in (
            types.is_string, types.is_large_string, types.is_string_view,
            types.is_binary, types.is_large_binary, types.is_binary_view, types.is_null,
        )
    )  # fmt: skip


def is_dictionary(kind: Any) -> bool:
    """Whether Arrow keeps each different value once."""
    return bool(pa.types.is_dictionary(kind))


def is_id(kind: Any) -> bool:
    """Whether values of an Arrow type are ids: text or whole numbers."""
    values = kind.value_type if pa.types.is_dictionary(kind) else kind
    return is_text(values) or pa.types.is_integer(values)


def as_bytes(column: Any) -> list[bytes | None]:
    """Returns the values of a column of text or whole numbers as UTF-8; text is not checked."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_integer(column.type):
        column = column.cast(pa.large_string())
    values: list[bytes | None] = column.cast(pa.large_binary()).to_pylist()
    return values
