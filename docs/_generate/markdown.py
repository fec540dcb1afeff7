"""Pieces of Markdown made of plain text."""

import re
from collections.abc import Sequence

_FLAG = re.compile(r"(?<![\w`-])(--[a-z][\w-]*)")
_SPECIAL = re.compile(r"([*_<>\[\]\\|])")


def prose(text: str) -> str:
    """Returns plain text as Markdown: flags as code, backticks kept, the rest shown as it is written."""
    pieces = _FLAG.sub(r"`\1`", text).split("`")
    return "`".join(
        piece if number % 2 else _SPECIAL.sub(r"\\\1", piece) for number, piece in enumerate(pieces)
    )


def entry(term: str, *paragraphs: str) -> str:
    """Returns an entry of a definition list; paragraphs that are empty are left out."""
    first, *rest = [" ".join(text.split()) for text in paragraphs if text] or [""]
    return "\n\n".join([f"{term}\n: {first}", *(f"  {text}" for text in rest)]) + "\n\n"


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Returns a table; cells are Markdown without a bar or a line break in them."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join("| " + " | ".join(cells) + " |\n" for cells in lines)
