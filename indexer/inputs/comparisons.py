"""Compares a column of any type with the values of a filter, as SQL does: null with anything is null."""

from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from indexer.errors import ConfigError
from indexer.inputs.conditions import Operator, Value, show_value

_KERNELS: dict[Operator, Callable[[Any, Any], Any]] = {
    Operator.EQUAL: pc.equal,
    Operator.OTHER: pc.not_equal,
    Operator.LESS: pc.less,
    Operator.AT_MOST: pc.less_equal,
    Operator.MORE: pc.greater,
    Operator.AT_LEAST: pc.greater_equal,
}


def compare(name: str, column: Any, operator: Operator, value: Value) -> Any:
    """Returns a bool array, null where the column is.

    Args:
        name: Of the column, for messages.
        column: Values.
        operator: How.
        value: With what.

    Raises:
        ConfigError: Values of this type cannot be compared with that.
    """
    column = _plain(column)
    kind = column.type
    if pa.types.is_null(kind):
        return pa.nulls(len(column), pa.bool_())
    if pa.types.is_integer(kind) and _is_number(value):
        return _compare_integers(column, operator, value)
    if pa.types.is_boolean(kind) and operator not in (Operator.EQUAL, Operator.OTHER):
        raise ConfigError(f"filter: column '{name}' holds true and false, which have no order; use = or !=")
    if pa.types.is_floating(kind):
        column = column.cast(pa.float64())
    try:
        return _KERNELS[operator](column, _scalar(name, column.type, value))
    except (pa.ArrowException, InvalidOperation, OverflowError) as error:
        raise _mismatch(name, kind, value) from error


def one_of(name: str, column: Any, values: Sequence[Value]) -> Any:
    """Returns whether each value is one of some, null where the column is; raises as `compare`."""
    column = _plain(column)
    if _is_text(column.type) and all(isinstance(value, str) for value in values):
        chosen = pa.array([_scalar(name, column.type, value).as_py() for value in values], column.type)
        return pc.if_else(column.is_null(), pa.scalar(None, pa.bool_()), pc.is_in(column, value_set=chosen))
    found, *others = (compare(name, column, Operator.EQUAL, value) for value in values)
    for other in others:
        found = pc.or_kleene(found, other)
    return found


def _plain(column: Any) -> Any:
    """Returns a column without dictionary, text in one type."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_string_view(kind):
        return column.cast(pa.large_string())
    if pa.types.is_binary(kind) or pa.types.is_binary_view(kind) or pa.types.is_fixed_size_binary(kind):
        return column.cast(pa.large_binary())
    return column


def _is_text(kind: Any) -> bool:
    return bool(pa.types.is_large_string(kind) or pa.types.is_large_binary(kind))


def _is_number(value: Value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _scalar(name: str, kind: Any, value: Value) -> Any:
    """Returns a filter's value in the type of a column."""
    types = pa.types
    if isinstance(value, str):
        if types.is_large_binary(kind):
            return pa.scalar(value.encode(), kind)
        if types.is_large_string(kind):
            return pa.scalar(value, kind)
        if types.is_date(kind) or types.is_timestamp(kind) or types.is_time(kind):
            return pa.scalar(value).cast(kind)
    elif isinstance(value, bool):
        if types.is_boolean(kind):
            return pa.scalar(value)
    elif types.is_floating(kind):
        return pa.scalar(float(value), pa.float64())
    elif types.is_decimal(kind):
        return pa.scalar(Decimal(str(value)))
    raise _mismatch(name, kind, value)


def _mismatch(name: str, kind: Any, value: Value) -> ConfigError:
    return ConfigError(
        f"filter: column '{name}' is {kind}, which cannot be compared with {show_value(value)}"
    )


def _compare_integers(column: Any, operator: Operator, value: Value) -> Any:
    """Compares exactly, whatever the width of the column and the size of the number."""
    kernel = _KERNELS[operator]
    if isinstance(value, float) and not value.is_integer():
        # Below 2^52 since it has a fraction (or beyond all): rounding of huge integers changes no outcome.
        return kernel(column.cast(pa.float64(), safe=False), pa.scalar(value))
    whole = int(value)
    low, high = _range(column.type)
    if low <= whole <= high:
        return kernel(column, pa.scalar(whole, column.type))
    always = kernel(pa.scalar(0), pa.scalar(1 if whole > high else -1)).as_py()
    return pc.if_else(column.is_null(), pa.scalar(None, pa.bool_()), pa.scalar(always))


def _range(kind: Any) -> tuple[int, int]:
    bits = kind.bit_width
    if pa.types.is_signed_integer(kind):
        return -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    return 0, (1 << bits) - 1
