"""Every command and program that the documentation shows is run as it stands there."""

import os
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from tests.documentation.addresses import Addresses
from tests.documentation.blocks import RUN, Block, Command, blocks_of, setup_of
from tests.documentation.conftest import Prepare
from tests.documentation.pages import ROOT, name_of, pages, runnable
from tests.documentation.shell import COMMAND_SECONDS, Shell

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
# Set by `make tutorial`: nothing stands in for what takes minutes.
WHOLE = bool(os.environ.get("WHOLE_TUTORIAL"))
WHOLE_SECONDS = 1200.0  # the build of a real model takes a minute where nothing else runs
# Machines that pages know by a letter: the pool that all pages share.
POOLS = ("a:50051", "b:50051")


@pytest.mark.parametrize("page", [page for page in pages() if runnable(page)], ids=name_of)
def test_a_page_does_what_it_says(
    page: Path, prepare: dict[str, Prepare], pool_port: int, tmp_path: Path
) -> None:
    """The blocks of a page, run in their order in one folder, end and answer as the page shows."""
    folder = tmp_path / "page"
    folder.mkdir()
    wanted = setup_of(page.read_text(encoding="utf-8"))
    for name, value in wanted.items():
        prepare[name](folder, value)
    addresses = Addresses({name: pool_port for name in POOLS if name in wanted.get("pool", "").split(",")})
    shell = Shell(folder, addresses, WHOLE_SECONDS if WHOLE else COMMAND_SECONDS)
    try:
        for block in runnable(page):
            if "stand-in" in block.notes and not WHOLE:
                prepare[block.notes["stand-in"]](folder, "")
            else:
                _run(block, shell, folder, addresses)
    finally:
        shell.close()


def _run(block: Block, shell: Shell, folder: Path, addresses: Addresses) -> None:
    if "file" in block.notes:
        target = folder / block.notes["file"]
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(addresses.to_here(block.text), encoding="utf-8")
    elif block.language == "console":
        for command in block.commands():
            if "the model answers" in block.notes and not WHOLE:
                command = Command(command.text, ())
            shell.run(command, numbers_differ="numbers differ" in block.notes)
    elif block.language == "sql":
        with duckdb.connect() as connection:
            connection.execute(block.text.replace("'index/", f"'{folder}/index/")).fetchall()
    else:
        run_python(addresses.to_here(block.text), folder)


def run_python(program: str, folder: Path) -> None:
    """Runs a program in a folder; it must end well."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{done.stderr}\n{program}"


def test_what_is_not_run_says_why() -> None:
    """A block is run, or a comment above it says why it cannot be; at most one in three is not."""
    blocks = [(page, block) for page in pages() for block in blocks_of(page.read_text(encoding="utf-8"))]
    runs = [(page, block) for page, block in blocks if block.language in RUN]
    left = [f"{name_of(page)}:{block.line}: {block.reason}" for page, block in runs if block.reason]
    sys.stdout.write("\n  ".join([f"{len(runs) - len(left)} are run, {len(left)} are not:", *left]))
    assert all(len(line.split(": ", 1)[1].split()) >= 2 for line in left), left
    assert len(left) * 3 <= len(runs), left


def test_every_page_was_seen() -> None:
    """The rules see real pages and real blocks: an empty list would pass everything."""
    assert len(pages()) >= 3
    assert sum(len(runnable(page)) for page in pages()) >= 10
    assert (ROOT / "README.md") in pages()
