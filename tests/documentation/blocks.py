"""The fenced blocks of a page that can be run, and what the page says of them. Pure.

A comment on the line above a block says what is special about it:

    <!-- not run: REASON -->    it cannot be run here
    <!-- file: NAME -->         its text is a file of that name, which the blocks below it use
    <!-- numbers differ -->     numbers in its output may be others, as times are
    <!-- stand-in: NAME -->     it takes minutes: tests make NAME otherwise, but for `make tutorial`
    <!-- the model answers -->  a stand-in for the model answers otherwise, only `make tutorial` compares

and a comment at its head, `<!-- setup: NAME NAME=VALUE … -->`, what must be there before its first block.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

RUN = ("console", "python", "sql")
_FENCE = re.compile(r"^( *)```(\w+)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_NOTES = re.compile(r"(?:^ *<!-- .+? -->\n\n?)+\Z", re.MULTILINE)
_NOTE = re.compile(r"<!-- (.+?)(?:: (.+?))? -->")
_SETUP = re.compile(r"^<!-- setup: (.+?) -->$", re.MULTILINE)
_NUMBER = re.compile(r"\d[\d,.]*")


@dataclass(frozen=True)
class Command:
    """A line that is typed (continued lines joined), and the lines that are shown below it."""

    text: str
    expected: tuple[str, ...]

    @property
    def in_background(self) -> bool:
        """Whether the shell goes on while it runs."""
        return self.text.rstrip().endswith("&")

    @property
    def fails(self) -> bool:
        """Whether an error is shown below it."""
        return any(line.startswith("error: ") for line in self.expected)


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        language: What follows the fence: console, python, sql, toml and others.
        line: Number of the line with the fence, from 1.
        text: What is inside, without the indentation of the fence.
        notes: What the comments above it say, by their first words; "" where there is no more.
    """

    language: str
    line: int
    text: str
    notes: dict[str, str]

    @property
    def reason(self) -> str:
        """Why it is not run; "" where it is."""
        return self.notes.get("not run", "")

    def commands(self) -> Iterator[Command]:
        """Yields the commands of a console block in order."""
        lines = self.text.splitlines()
        while lines:
            command = lines.pop(0)
            assert command.startswith("$ "), f"line {self.line}: output before a command: {command!r}"
            while command.endswith("\\"):
                command += "\n" + lines.pop(0)
            expected = []
            while lines and not lines[0].startswith("$ "):
                expected.append(lines.pop(0))
            yield Command(command.removeprefix("$ "), tuple(expected))


def blocks_of(page: str) -> list[Block]:
    """Returns all fenced blocks of a page that name a language."""
    found = []
    for match in _FENCE.finditer(page):
        above = _NOTES.search(page[: match.start()])
        notes = {note[1]: note[2] or "" for note in _NOTE.finditer(above[0])} if above else {}
        text = re.sub(rf"^{match[1]}", "", match[3], flags=re.MULTILINE)
        found.append(Block(match[2], page.count("\n", 0, match.start()) + 1, text, notes))
    return found


def setup_of(page: str) -> dict[str, str]:
    """Returns what a page wants to be there, by name; "" where it names no value."""
    words = [word for found in _SETUP.finditer(page) for word in found[1].split()]
    return {word.partition("=")[0]: word.partition("=")[2] for word in words}


def matches(expected: tuple[str, ...], actual: list[str], *, numbers_differ: bool) -> bool:
    """Returns whether output is what a page shows: `…` stands for anything, alone on a line for any lines."""
    wanted = "".join(
        r"(?:.*\n)*?" if line.strip() == "…" else rf"{_pattern(line, numbers_differ)} *\n"
        for line in expected
    )
    return re.fullmatch(wanted, "".join(f"{line.rstrip()}\n" for line in actual)) is not None


def _pattern(line: str, numbers_differ: bool) -> str:
    return "".join(
        ".*"
        if piece == "…"
        else " +"
        if piece.isspace()
        else _NUMBER.pattern
        if numbers_differ and _NUMBER.fullmatch(piece)
        else re.escape(piece)
        for piece in re.split(rf"(…| +|{_NUMBER.pattern})", line.rstrip())
    )
