"""The language of filters: the tree, and its text. Pure.

    lang = 'en' and (year >= 2020 or not kind in ('a', 'b')) and url is not null

Comparisons (=, !=, <>, <, <=, >, >=) of a column with a text, a number, true or false; `[not] in (…)`;
`is [not] null`; `and`, `or`, `not`, parentheses. Quotes are doubled in texts and names: 'it''s', "a column".
Nulls are those of SQL: a comparison with null is neither true nor false, and only what is true keeps a row.
"""

from dataclasses import dataclass
from enum import StrEnum

Value = str | int | float | bool


class Operator(StrEnum):
    """How a column is compared with a value."""

    EQUAL = "="
    OTHER = "!="
    LESS = "<"
    AT_MOST = "<="
    MORE = ">"
    AT_LEAST = ">="


@dataclass(frozen=True)
class Compare:
    """A column against a value."""

    column: str
    operator: Operator
    value: Value


@dataclass(frozen=True)
class OneOf:
    """Whether a column has one of some values."""

    column: str
    values: tuple[Value, ...]


@dataclass(frozen=True)
class IsNull:
    """Whether a column has no value; never null itself."""

    column: str


@dataclass(frozen=True)
class Not:
    """The opposite."""

    part: "Condition"


@dataclass(frozen=True)
class And:
    """All of at least two parts."""

    parts: tuple["Condition", ...]


@dataclass(frozen=True)
class Or:
    """Any of at least two parts."""

    parts: tuple["Condition", ...]


Condition = Compare | OneOf | IsNull | Not | And | Or


def columns_in(condition: Condition) -> list[str]:
    """Returns the columns that a condition names, each once, in the order of their first place."""
    match condition:
        case And(parts) | Or(parts):
            return list(dict.fromkeys(name for part in parts for name in columns_in(part)))
        case Not(part):
            return columns_in(part)
        case _:
            return [condition.column]


def show(condition: Condition) -> str:
    """Returns the text of a tree, which `parse` turns into the same tree."""
    match condition:
        case And(parts):
            return " and ".join(map(_enclosed, parts))
        case Or(parts):
            return " or ".join(map(_enclosed, parts))
        case Not(part):
            return f"not {_enclosed(part)}"
        case IsNull(column):
            return f"{_name(column)} is null"
        case OneOf(column, values):
            return f"{_name(column)} in ({', '.join(map(show_value, values))})"
        case Compare(column, operator, value):
            return f"{_name(column)} {operator} {show_value(value)}"


def show_value(value: Value) -> str:
    """Returns how a value is written in a filter."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return repr(value).replace("inf", "1e999")


def _name(column: str) -> str:
    return '"' + column.replace('"', '""') + '"'


def _enclosed(condition: Condition) -> str:
    return f"({show(condition)})" if isinstance(condition, And | Or) else show(condition)
