"""Values of columns as JSON and as messages."""

import datetime
import json
import math
from decimal import Decimal

import pytest

from indexer.search.values import as_json
from indexer.serving.wire import column_value


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (None, None),
        (True, True),
        (3, 3),
        (0.5, 0.5),
        (math.inf, None),
        (math.nan, None),
        ("ä\n", "ä\n"),
        (b"\xff", "/w=="),
        (datetime.date(2020, 2, 29), "2020-02-29"),
        (datetime.datetime(2020, 2, 29, 1, 2, tzinfo=datetime.UTC), "2020-02-29T01:02:00+00:00"),
        (Decimal("1.10"), "1.10"),
        (datetime.timedelta(seconds=90), "0:01:30"),
        ({"a": [b"\x00"], "b": {"c": datetime.date(1, 1, 1)}}, {"a": ["AA=="], "b": {"c": "0001-01-01"}}),
        ([(1, "x")], [[1, "x"]]),
    ],
)  # fmt: skip
def test_every_value_has_its_json(value: object, wanted: object) -> None:
    """Bytes in base 64, dates and decimals as text, numbers that JSON lacks as null; at any depth."""
    assert json.loads(as_json(value)) == wanted


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (True, "bool"),
        (-(2**63), "int64"),
        (2**63 - 1, "int64"),
        (2**63, "json"),
        (0.5, "double"),
        (math.inf, "double"),
        ("a", "string"),
        ("", "string"),
        (b"", "bytes"),
        ([1], "json"),
        ({"a": 1}, "json"),
        (datetime.date(2020, 1, 1), "json"),
        (Decimal("1.5"), "json"),
        (None, None),
    ],
)
def test_every_value_has_its_kind(value: object, kind: str | None) -> None:
    """A value travels as what it is; what has no kind of its own as JSON; null as none."""
    message = column_value(value)
    assert message.WhichOneof("kind") == kind
    if kind not in (None, "json"):
        assert getattr(message, str(kind)) == value
    if kind == "json":
        json.loads(message.json)
