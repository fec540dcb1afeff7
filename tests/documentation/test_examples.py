"""The programs that docstrings show are run: those of the library's classes, and the calls of `examples/`."""

import doctest
import re
from pathlib import Path

import pytest

import indexer.adapters.haystack
import indexer.adapters.langchain
import indexer.adapters.llama_index
import indexer.adapters.sentence_transformers
import indexer.client
import indexer.search
from tests.documentation.addresses import Addresses
from tests.documentation.blocks import Command
from tests.documentation.conftest import Prepare
from tests.documentation.pages import ROOT
from tests.documentation.shell import Shell
from tests.documentation.test_commands import run_python

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
SHOWN = (
    indexer.client.Client,
    indexer.client.AsyncClient,
    indexer.search.Searcher,
    indexer.adapters.haystack,
    indexer.adapters.langchain,
    indexer.adapters.llama_index,
    indexer.adapters.sentence_transformers,
)
# What the examples take for granted.
GIVEN = """
from pathlib import Path
import numpy as np
vectors = np.eye(1, 32, dtype=np.float32)
"""
_SKIP = re.compile(r" *(?:\.\.\. )?# doctest: \+SKIP")
_CALL = re.compile(r"^    (python (?:-m indexer|examples/).*)$", re.MULTILINE)


@pytest.mark.parametrize("shown", SHOWN, ids=lambda shown: shown.__name__.rpartition(".")[2])
def test_an_example_runs(shown: object, prepare: dict[str, Prepare], pool_port: int, tmp_path: Path) -> None:
    """What a docstring shows behind `>>>` runs as it stands, with a pool and an index there."""
    prepare["docs"](tmp_path, "")
    prepare["texts"](tmp_path, "lines.txt")
    prepare["index"](tmp_path, "")
    addresses = Addresses({":50051": pool_port})
    examples = doctest.DocTestParser().get_examples(_SKIP.sub("", shown.__doc__ or ""))
    assert examples
    run_python(GIVEN + addresses.to_here("".join(example.source for example in examples)), tmp_path)


@pytest.mark.parametrize("name", ["embed_query.py", "embed_documents.py", "search.py"])
def test_an_example_program_runs(
    name: str, prepare: dict[str, Prepare], pool_port: int, tmp_path: Path
) -> None:
    """The commands at the head of a program of `examples/` do what they say."""
    folder = tmp_path / "page"
    folder.mkdir()
    for wanted in ("examples", "bundle", "docs", "index"):
        prepare[wanted](folder, "")
    prepare["texts"](folder, "lines.txt")
    commands = _CALL.findall((ROOT / "examples" / name).read_text(encoding="utf-8"))
    assert commands
    serves = any(" serve " in command for command in commands)
    shell = Shell(folder, Addresses({} if serves else {":50051": pool_port}))
    try:
        for command in commands:
            text = command.replace("python examples/", f"PYTHONPATH={ROOT} python examples/")
            shell.run(Command(f"{text} &", ("ready …",)) if " serve " in text else Command(text, ()))
    finally:
        shell.close()
