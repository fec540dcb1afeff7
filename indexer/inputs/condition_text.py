"""Reads the text of a filter. Pure; any text is a tree or a ConfigError."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from indexer.errors import ConfigError
from indexer.inputs.conditions import And, Compare, Condition, IsNull, Not, OneOf, Operator, Or, Value

_LENGTH, _DEPTH = 10_000, 50  # characters, and parentheses in each other, at most; arbitrary, for safety

_TOKEN = re.compile(
    r"""(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)
    |(?P<text>'(?:[^']|'')*')
    |(?P<quoted>"(?:[^"]|"")+")
    |(?P<name>[^\W\d]\w*(?:\.\w+)*)
    |(?P<sign><=|>=|<>|!=|==|[=<>(),])
    |(?P<space>\s+)""",
    re.VERBOSE,
)
_KEYWORDS = {"and", "or", "not", "in", "is", "null", "true", "false"}
_SAME_SIGNS = {"<>": "!=", "==": "="}


@dataclass(frozen=True)
class _Token:
    kind: str  # "number", "text", "name", "sign", "keyword" or "end"
    text: str
    at: int


def parse(text: str) -> Condition:
    """Returns the tree of a filter; raises ConfigError that says where it stops making sense."""
    if len(text) > _LENGTH:
        raise ConfigError(f"the filter has {len(text)} characters, wanted {_LENGTH} at most")
    parser = _Parser(text)
    found = parser.any_of(0)
    if parser.token.kind != "end":
        raise parser.error("'and', 'or' or the end")
    return found


def _tokens(text: str) -> Iterator[_Token]:
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise ConfigError(f"filter: {text[at : at + 20]!r} at character {at + 1} is nothing known there")
        kind, word = str(match.lastgroup), match[0]
        if kind == "quoted":
            yield _Token("name", word[1:-1].replace('""', '"'), at)
        elif kind == "text":
            yield _Token("text", word[1:-1].replace("''", "'"), at)
        elif kind == "name" and word.lower() in _KEYWORDS:
            yield _Token("keyword", word.lower(), at)
        elif kind != "space":
            yield _Token(kind, _SAME_SIGNS.get(word, word), at)
        at = match.end()
    yield _Token("end", "", at)


class _Parser:
    """Descends from `or` to comparisons; `token` is the one to look at next."""

    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self.token = next(self._tokens)

    def error(self, wanted: str) -> ConfigError:
        """Returns the error that something else was wanted here."""
        got = f"'{self.token.text}'" if self.token.kind != "end" else "its end"
        return ConfigError(f"filter: wanted {wanted} at character {self.token.at + 1}, got {got}")

    def any_of(self, depth: int) -> Condition:
        """Reads parts between `or`."""
        parts = [self._all_of(depth)]
        while self._take("keyword", "or"):
            parts.append(self._all_of(depth))
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def _all_of(self, depth: int) -> Condition:
        parts = [self._one(depth)]
        while self._take("keyword", "and"):
            parts.append(self._one(depth))
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def _one(self, depth: int) -> Condition:
        if depth > _DEPTH:
            raise ConfigError(f"the filter has more than {_DEPTH} parentheses or 'not' in each other")
        if self._take("keyword", "not"):
            return Not(self._one(depth + 1))
        if self._take("sign", "("):
            inner = self.any_of(depth + 1)
            self._want("sign", ")")
            return inner
        return self._predicate()

    def _predicate(self) -> Condition:
        if self.token.kind != "name":
            raise self.error("a column, 'not' or '('")
        column = self._next().text
        if self._take("keyword", "is"):
            negated = self._take("keyword", "not")
            self._want("keyword", "null")
            return Not(IsNull(column)) if negated else IsNull(column)
        negated = self._take("keyword", "not")
        if self._take("keyword", "in"):
            found = OneOf(column, self._values())
            return Not(found) if negated else found
        if negated or self.token.kind != "sign" or self.token.text not in list(Operator):
            raise self.error("'in'" if negated else "a comparison, 'in' or 'is'")
        return Compare(column, Operator(self._next().text), self._value())

    def _values(self) -> tuple[Value, ...]:
        self._want("sign", "(")
        values = [self._value()]
        while self._take("sign", ","):
            values.append(self._value())
        self._want("sign", ")")
        return tuple(values)

    def _value(self) -> Value:
        token = self.token
        if token.kind == "text":
            return self._next().text
        if token.kind == "number":
            return _number(self._next())
        if token.kind == "keyword" and token.text in ("true", "false"):
            return self._next().text == "true"
        raise self.error("a text in single quotes, a number, true or false")

    def _next(self) -> _Token:
        token = self.token
        self.token = next(self._tokens)
        return token

    def _take(self, kind: str, text: str) -> bool:
        if (self.token.kind, self.token.text) != (kind, text):
            return False
        self._next()
        return True

    def _want(self, kind: str, text: str) -> None:
        if not self._take(kind, text):
            raise self.error(f"'{text}'")


def _number(token: _Token) -> int | float:
    try:
        return float(token.text) if re.search(r"[.eE]", token.text) else int(token.text)
    except ValueError as error:  # Python reads no number of thousands of digits
        raise ConfigError(f"filter: the number at character {token.at + 1} is too long") from error
