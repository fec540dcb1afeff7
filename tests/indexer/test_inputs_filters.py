"""Filters: their language, and what they keep, against a reading of the same tree in plain Python."""

import contextlib
import datetime as dt
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.config import PlanConfig
from indexer.errors import ConfigError, InputError
from indexer.inputs import files as inputs
from indexer.inputs.condition_text import parse
from indexer.inputs.conditions import (
    And,
    Compare,
    Condition,
    IsNull,
    Not,
    OneOf,
    Operator,
    Or,
    columns_in,
    show,
)
from indexer.inputs.filters import evaluate, mask
from indexer.plan import Model, Plan, make_plan

WriteParquet = Callable[..., Path]

_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
_WHOLE = st.integers(-(1 << 70), 1 << 70)
_NUMBERS = _WHOLE | st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False)


def _conditions(
    names: st.SearchStrategy[str], values: st.SearchStrategy[Any]
) -> st.SearchStrategy[Condition]:
    lists = st.lists(values, min_size=1, max_size=3).map(tuple)
    leaves = (
        st.builds(Compare, names, st.sampled_from(Operator), values)
        | st.builds(OneOf, names, lists)
        | st.builds(IsNull, names)
    )

    def grow(inner: st.SearchStrategy[Condition]) -> st.SearchStrategy[Condition]:
        parts = st.lists(inner, min_size=2, max_size=3).map(tuple)
        return st.builds(Not, inner) | st.builds(And, parts) | st.builds(Or, parts)

    return st.recursive(leaves, grow, max_leaves=6)


@given(_conditions(_TEXTS.filter(bool), _TEXTS | _NUMBERS | st.booleans()))
def test_a_tree_survives_its_text(condition: Condition) -> None:
    """Whatever columns and values are called, what is written is what is read."""
    assert parse(show(condition)) == condition


@given(st.text(max_size=60) | st.text("()'\"=<>,.andotrisulinfe 0123456789-", max_size=60))
def test_any_text_is_a_filter_or_an_error(text: str) -> None:
    """No text of a caller ends in anything but a tree or ConfigError."""
    with contextlib.suppress(ConfigError):
        condition = parse(text)
        assert parse(show(condition)) == condition


def test_the_language_is_that_of_sql() -> None:
    """`and` binds closer than `or`, `not` closest; keywords in any case; signs have two spellings."""
    assert parse("a = 1 or b = 2 AND not c is NOT null") == Or(
        (
            Compare("a", Operator.EQUAL, 1),
            And((Compare("b", Operator.EQUAL, 2), Not(Not(IsNull("c"))))),
        )
    )
    assert parse("x<>-1.5e3") == Compare("x", Operator.OTHER, -1500.0)
    assert parse("kind not in ('it''s', \"a\")".replace('"a"', "true")) == Not(OneOf("kind", ("it's", True)))
    assert parse('"a ""b""" == false') == Compare('a "b"', Operator.EQUAL, False)
    assert columns_in(parse("lang = 'en' and (year >= 2020 or lang in ('a'))")) == ["lang", "year"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"wanted a column, 'not' or '\(' at character 1, got its end"),
        ("lang", r"wanted a comparison, 'in' or 'is' at character 5, got its end"),
        ("lang = en", r"wanted a text in single quotes, a number, true or false at character 8, got 'en'"),
        ("lang = null", "at character 8, got 'null'"),
        ("(lang = 'a'", r"wanted '\)'"),
        ("lang = 'a' lang", "wanted 'and', 'or' or the end at character 12"),
        ("lang in ()", "at character 10"),
        ("lang = 'a", "at character 8 is nothing known"),
        ("a = " + "9" * 5000, "is too long"),
        ("(" * 60 + "a = 1" + ")" * 60, "more than 50 parentheses"),
        ("a = 1 and " * 2000 + "a = 1", "wanted 10000 at most"),
    ],
)
def test_a_wrong_filter_says_where(text: str, message: str) -> None:
    """The message tells the character and what was wanted there."""
    with pytest.raises(ConfigError, match=message):
        parse(text)


def _truth(condition: Condition, row: Mapping[str, Any]) -> bool | None:
    """The oracle: three-valued logic over Python values."""
    match condition:
        case And(parts):
            found = {_truth(part, row) for part in parts}
            return False if False in found else None if None in found else True
        case Or(parts):
            found = {_truth(part, row) for part in parts}
            return True if True in found else None if None in found else False
        case Not(part):
            inner = _truth(part, row)
            return None if inner is None else not inner
        case IsNull(column):
            return row[column] is None
        case OneOf(column, values):
            return None if row[column] is None else row[column] in values
        case Compare(column, operator, value):
            left = row[column]
            if left is None:
                return None
            return bool(
                {
                    Operator.EQUAL: lambda: left == value,
                    Operator.OTHER: lambda: left != value,
                    Operator.LESS: lambda: left < value,
                    Operator.AT_MOST: lambda: left <= value,
                    Operator.MORE: lambda: left > value,
                    Operator.AT_LEAST: lambda: left >= value,
                }[operator]()
            )


_KINDS = [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint64()]


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(_KINDS), st.data())
def test_numbers_compare_exactly(kind: Any, data: st.DataObject) -> None:
    """Columns of every width against numbers of any size give what Python's numbers give."""
    bits, signed = kind.bit_width, pa.types.is_signed_integer(kind)
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    column = data.draw(st.lists(st.none() | st.integers(low, high), min_size=1, max_size=8))
    near = st.integers(low - 2, high + 2)
    condition = data.draw(_conditions(st.just("n"), _NUMBERS | near | near.map(lambda n: n + 0.5)))
    found = evaluate(condition, {"n": pa.array(column, kind)}).to_pylist()
    assert found == [_truth(condition, {"n": value}) for value in column]


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(
        [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())]
    ),
    st.data(),
)
def test_nulls_are_those_of_sql(kind: Any, data: st.DataObject) -> None:
    """Any tree over two columns of text keeps what three-valued logic keeps."""
    texts = st.none() | st.sampled_from(["", "a", "b", "ü"])
    rows = data.draw(st.lists(st.fixed_dictionaries({"x": texts, "y": texts}), min_size=1, max_size=8))
    condition = data.draw(_conditions(st.sampled_from("xy"), st.sampled_from(["", "a", "b", "ü"])))
    arrays = {name: pa.array([row[name] for row in rows], kind) for name in "xy"}
    assert evaluate(condition, arrays).to_pylist() == [_truth(condition, row) for row in rows]


def test_other_types_compare_with_their_spelling() -> None:
    """Times are compared with ISO 8601 texts, decimals and floats with numbers, bytes with texts."""
    day = dt.date(2024, 5, 1)
    when = dt.datetime(2024, 5, 1, 12, tzinfo=dt.UTC)
    for column, text, wanted in (
        (pa.array([day, None]), "c >= '2024-05-01'", [True, None]),
        (pa.array([when.replace(tzinfo=None), None]), "c < '2024-05-01 13:00:00'", [True, None]),
        (pa.array([when], pa.timestamp("ms", "UTC")), "c = '2024-05-01T12:00:00Z'", [True]),
        (pa.array([Decimal("1.50"), None]), "c = 1.5 or c > 1000", [True, None]),
        (pa.array([0.5, None], pa.float32()), "c in (0.5, 2)", [True, None]),
        (pa.array([1.5], pa.float16()), "c > 1", [True]),
        (pa.array([b"ab", None]), "c = 'ab'", [True, None]),
        (pa.array([True, False, None]), "c = true", [True, False, None]),
        (pa.nulls(2), "c = 'x' or c = 1 or c is null", [True, True]),
        (pa.array([[1], None]), "c is not null", [True, False]),
    ):
        assert evaluate(parse(text), {"c": column}).to_pylist() == wanted, (column.type, text)


@pytest.mark.parametrize(
    ("column", "text"),
    [
        (pa.array([1]), "c = 'a'"),
        (pa.array(["a"]), "c > 3"),
        (pa.array([True]), "c = 1"),
        (pa.array([1]), "c = true"),
        (pa.array([dt.date(2024, 5, 1)]), "c = 'yesterday'"),
        (pa.array([dt.datetime(2024, 5, 1)], pa.timestamp("us", "UTC")), "c = '2024-05-01'"),
        (pa.array([[1]]), "c = 1"),
        (pa.array([dt.timedelta(1)]), "c = '1 day'"),
    ],
    ids=lambda value: str(getattr(value, "type", value)),
)
def test_what_cannot_be_compared_is_named(column: Any, text: str) -> None:
    """The message has the column, its type and the value."""
    with pytest.raises(ConfigError, match=r"column 'c' is .* cannot be compared with"):
        evaluate(parse(text), {"c": column})
    with pytest.raises(ConfigError, match="no order"):
        evaluate(parse("c < true"), {"c": pa.array([True])})


def _plan(paths: list[Path], model: Model, **config: Any) -> Plan:
    settings_ = PlanConfig(text_columns=("text",), **config)
    described, _ = inputs.describe(inputs.resolve([str(path) for path in paths]), settings_)
    return make_plan(described, settings_, model)


def test_a_mask_has_the_row_ids_of_the_plan(
    write_parquet: WriteParquet, tmp_path: Path, model: Model
) -> None:
    """Rows are kept by their ids, over files, row groups and units; beyond the limit none; folders count."""
    (tmp_path / "lang=en").mkdir()
    (tmp_path / "lang=__HIVE_DEFAULT_PARTITION__").mkdir()
    years = [2018 + n for n in range(7)]
    text = [f"t{n}" for n in range(7)]
    for folder in ("lang=en", "lang=__HIVE_DEFAULT_PARTITION__"):
        ids = [f"{folder}{n}" for n in range(7)]
        write_parquet(f"{folder}/a.parquet", doc_id=ids, text=text, year=years, row_group=3)
    plan = _plan([tmp_path], model, unit_rows=4, limit=12)
    assert [file.path.split("/")[-2] for file in plan.inputs] == [
        "lang=__HIVE_DEFAULT_PARTITION__",
        "lang=en",
    ]
    first, second = years, years[:5]
    for wanted, expected in (
        ("year >= 2020", [year >= 2020 for year in first + second]),
        ("lang = 'en'", [False] * 7 + [True] * 5),
        ("lang is null and year < 2019", [True] + [False] * 11),
        ("lang != 'de' or year = 2018", [True] + [False] * 6 + [True] * 5),
    ):
        found = mask(plan, parse(wanted))
        assert found.dtype == np.bool_
        assert found.tolist() == expected, wanted


def test_a_mask_names_unknown_columns_and_changed_files(
    write_parquet: WriteParquet, tmp_path: Path, model: Model
) -> None:
    """A column that some files lack is null there; one that all lack is an error; so is a changed file."""
    write_parquet("a.parquet", doc_id=["a"], text=["x"], kind=["k"])
    b = write_parquet("b.parquet", doc_id=["b"], text=["x"])
    plan = _plan([tmp_path], model)
    assert mask(plan, parse("kind = 'k'")).tolist() == [True, False]
    assert mask(plan, parse("kind is null")).tolist() == [False, True]
    with pytest.raises(ConfigError, match=r"no input has a column 'sort'; there are: doc_id, text, kind"):
        mask(plan, parse("kind = 'k' or sort = 1"))
    write_parquet("b.parquet", doc_id=["b", "c"], text=["x", "y"])
    with pytest.raises(InputError, match=rf"{b} had .* since it was indexed: run the same 'run' command"):
        mask(plan, parse("kind = 'k'"))
    b.unlink()
    with pytest.raises(InputError, match=rf"{b} is not there"):
        mask(plan, parse("kind = 'k'"))
