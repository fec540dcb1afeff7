"""What the command line reads and prints."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from indexer.__main__ import cli
from indexer.commands.report import hits_as_text, query_lines, read_queries
from indexer.errors import ConfigError, InputError
from indexer.search.hits import Hit, Passage


def test_queries_come_one_a_line_or_as_json(tmp_path: Path) -> None:
    """Empty lines are no queries; JSON lines give their `text`."""
    plain, lines = tmp_path / "a.txt", tmp_path / "a.jsonl"
    plain.write_text("first\n\n  \nsécond\n", encoding="utf-8")
    lines.write_text('{"text": "first", "id": 1}\n\n{"text": "sécond"}\n', encoding="utf-8")
    assert read_queries(plain) == read_queries(lines) == ["first", "sécond"]


@pytest.mark.parametrize(
    ("content", "kind", "words"),
    [
        (b"", ConfigError, "holds no query"),
        (b"\xff\xfe", InputError, "cannot read queries"),
        (b'{"text": "a"}\n{"query": "b"}', InputError, "query 2 is no JSON object with 'text'"),
        (b"[]", InputError, "query 1 is no JSON object"),
        (b'{"text": 3}', InputError, "'text' is int, wanted a string"),
    ],
)
def test_a_file_of_something_else_is_refused(
    content: bytes, kind: type[Exception], words: str, tmp_path: Path
) -> None:
    """The message names the file, the query and what was wanted."""
    path = tmp_path / "queries.jsonl"
    path.write_bytes(content)
    with pytest.raises(kind, match=words):
        read_queries(path)


def test_hits_read_as_a_table() -> None:
    """Rank, score and id stand in columns, under their query when there are several."""
    hits = [Hit(1, 0.5, "a"), Hit(2, -0.25, "b c")]
    assert hits_as_text("q", hits, with_query=False) == "   1  0.5000  a\n   2  -0.2500  b c"
    assert hits_as_text("q", [], with_query=True) == "query: q\n      no documents"
    shown = Hit(2, 0.25, "d", {"lang": "en", "text": "a long\n" * 9, "year": 7, "none": None}, Passage(5, 70))
    line = (
        "   2  0.2500  d  [5:70]  lang=en  text=a long a long a long a long a long a lo…  year=7  none=null"
    )
    assert hits_as_text("q", [shown], with_query=False) == line
    assert [len(some) for some in query_lines(["q"] * 70)] == [32, 32, 6]


@pytest.mark.parametrize("command", ["run", "search", "serve", "verify"])
def test_every_option_is_explained(command: str) -> None:
    """--help tells what each option means, and the default of each that has one."""
    said = CliRunner().invoke(cli, [command, "--help"]).output
    for option in cli.commands[command].params:
        if option.opts[0].startswith("-"):
            assert re.search(rf"{option.opts[0]}\b", said)
            assert getattr(option, "help", None), option.name
    assert "[default:" in said
