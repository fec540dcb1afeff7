"""The pages whose commands are run: the site's, and the README."""

from pathlib import Path

from tests.documentation.blocks import RUN, Block, blocks_of

ROOT = Path(__file__).resolve().parents[2]
_NOT_PAGES = {"_build", "_generate"}


def pages() -> list[Path]:
    """Returns the pages in the order of their names."""
    found = [path for path in (ROOT / "docs").rglob("*.md") if not _NOT_PAGES & set(path.parts)]
    return [ROOT / "README.md", *sorted(found)]


def name_of(page: Path) -> str:
    """Returns a page's path in the repository."""
    return page.relative_to(ROOT).as_posix()


def runnable(page: Path) -> list[Block]:
    """Returns the blocks that are to be run, and the files that they use, in order."""
    return [
        block
        for block in blocks_of(page.read_text(encoding="utf-8"))
        if (block.language in RUN or "file" in block.notes) and not block.reason
    ]
