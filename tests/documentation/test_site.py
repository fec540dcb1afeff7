"""The site: built with warnings as errors, complete, and with no word of what does not exist."""

import re
import subprocess
import sys
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import click
import pytest

from build_models.__main__ import main as build_models
from indexer.__main__ import cli as indexer
from tests.documentation.blocks import RUN, blocks_of
from tests.documentation.pages import ROOT, name_of, pages
from worker.__main__ import main as worker
from worker.settings.table import settings

PROGRAMS = {"worker": worker, "indexer": indexer, "build_models": build_models}
BUILD_SECONDS = 240.0
OTHER_DOCUMENTS = ("ARCHITECTURE.md", "CONTRIBUTING.md")
# Files that ARCHITECTURE.md names because they are no more.
PAST = {"indexer/client.py"}
_FLAG = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]+")
_PYTHON_M = re.compile(r"python -m (worker|indexer|build_models) ([a-z][\w-]*)([^\n`]*(?:\\\n[^\n`]*)*)")
_MAKE = re.compile(r"\bmake ([a-z]+)\b")
_CODE_PATH = re.compile(r"`((?:worker|indexer|build_models|tests|deploy|docs|examples|proto)/[\w./-]+\w)`")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; a warning of Sphinx fails every test of this file that reads it."""
    out = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-n", "-b", "html", "docs", str(out)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=BUILD_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return out


def _words(page: Path) -> str:
    return unescape(re.sub(r"<[^>]+>", "", page.read_text(encoding="utf-8")))


def test_the_command_line_is_complete(site: Path) -> None:
    """Each command of the three programs and each of its options stands in the reference."""
    for name, program in PROGRAMS.items():
        text = _words(site / "reference" / f"command-line-{name.replace('_', '-')}.html")
        for command in program.commands.values():
            assert f"python -m {name} {command.name}" in text
            for option in command.params:
                assert all(flag in text for flag in option.opts), (command.name, option.opts)


def test_the_settings_are_complete(site: Path) -> None:
    """Each setting stands in the reference with flag, variable, key and default."""
    text = _words(site / "reference" / "settings.html")
    for setting in settings():
        assert all(word in text for word in (setting.flag, setting.variable, setting.key)), setting.key
        assert str(setting.default).lower() in text.lower() or setting.default in (None, ""), setting.key


def test_the_wire_is_complete(site: Path) -> None:
    """Each message, method and field of each .proto file stands in the reference."""
    text = _words(site / "reference" / "wire.html")
    for proto in (ROOT / "proto").rglob("*.proto"):
        code = re.sub(r"//.*", "", proto.read_text(encoding="utf-8"))
        names = re.findall(r"(?:service|message|enum|rpc) (\w+)", code)
        names += re.findall(r"(\w+) = \d+", code)
        assert len(names) > 3
        assert [name for name in names if name not in text] == [], proto.name


def test_generated_pages_hold_what_they_promise(site: Path) -> None:
    """No marker is left where code should have spoken, and no page is empty."""
    for page in site.rglob("*.html"):
        assert "<!-- generated" not in page.read_text(encoding="utf-8"), page.name
    assert "embedpool_texts_total" in _words(site / "reference" / "metrics.html")
    assert "RESOURCE_EXHAUSTED" in _words(site / "reference" / "errors.html")
    assert "embed_documents" in _words(site / "reference" / "python.html")


def _documents() -> Iterator[Path]:
    yield from pages()
    yield from (ROOT / name for name in OTHER_DOCUMENTS)


@pytest.mark.parametrize("page", list(_documents()), ids=name_of)
def test_a_page_names_only_what_exists(page: Path) -> None:
    """Commands with their flags, make targets and files that a page names are there."""
    text = page.read_text(encoding="utf-8")
    wrong = [f"python -m {name} {command}: {flag}" for name, command, flag in _unknown_flags(text)]
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    blocks = "".join(block.text for block in blocks_of(text) if block.language in RUN)
    code = blocks + " ".join(re.findall(r"`([^`\n]+)`", text))
    wrong += [f"make {target}" for target in _MAKE.findall(code) if target not in targets]
    # The table of invariants names tests as they lie in `tests/`.
    paths = set(_CODE_PATH.findall(text)) - PAST
    wrong += [path for path in paths if not (ROOT / path).exists() and not (ROOT / "tests" / path).exists()]
    assert not wrong, wrong


def _unknown_flags(text: str) -> Iterator[tuple[str, str, str]]:
    for name, command_name, rest in _PYTHON_M.findall(text):
        command = PROGRAMS[name].commands.get(command_name)
        if command is None:
            yield name, command_name, "no such command"
            continue
        context = click.Context(command)
        known = {
            flag for option in command.get_params(context) for flag in (*option.opts, *option.secondary_opts)
        }
        line = re.split(r"[|;&#]", rest)[0]
        yield from ((name, command_name, flag) for flag in _FLAG.findall(line) if flag not in known)


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *(ROOT / name for name in OTHER_DOCUMENTS)], ids=name_of
)
def test_a_link_leads_to_a_file(page: Path) -> None:
    """Links of the pages outside the site lead to files of the repository; Sphinx looks at those inside."""
    links = re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []
