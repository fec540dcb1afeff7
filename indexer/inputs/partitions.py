"""Columns in folder names: `lang=en/year=2020/part.parquet` (Hive partitions). Pure.

A column of the file itself wins over a folder of the same name.
"""

from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import unquote

from indexer.inputs.address import read_address

_NULL = "__HIVE_DEFAULT_PARTITION__"  # how Hive, Spark and Arrow write a null
# Written so, a number has one spelling only: "007" stays text.
_PLAIN_DIGITS = 18  # always within int64


@lru_cache(4096)  # arbitrary; a name is looked at for every unit
def partitions(name: str) -> dict[str, str | None]:
    """Returns the columns that the folders of an input's name spell, outermost first; None for null."""
    found: dict[str, str | None] = {}
    for folder in read_address(name).path.split("/")[:-1]:
        key, equals, value = folder.partition("=")
        if key and equals:
            found[unquote(key)] = None if value == _NULL else unquote(value)
    return found


def are_numbers(values: Iterable[str | None]) -> bool:
    """Whether all values that are there are whole numbers in their only spelling."""
    there = [value for value in values if value is not None]
    return bool(there) and all(map(_is_number, there))


def _is_number(value: str) -> bool:
    digits = value.removeprefix("-")
    return (
        digits.isascii()
        and digits.isdecimal()
        and len(digits) <= _PLAIN_DIGITS
        and (digits[0] != "0" or value == "0")
    )
