"""Bearer tokens from files: who may embed, who may also reload.

Comparing takes the same time for every wrong token: hashes of equal length are compared, all of them.
"""

import functools
import hashlib
import hmac
import logging
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from worker.errors import ConfigError
from worker.operation.rotation import Rotated
from worker.settings.groups import Auth

_log = logging.getLogger(__name__)

# Characters below which a token is warned of: 128 bits in base 64.
_SHORT = 22
_SCHEME = "bearer "


class Role(Enum):
    """What a caller may do, from less to more."""

    ANYBODY = "anybody"
    EMBED = "embed"
    ADMIN = "admin"


@dataclass(frozen=True)
class Token:
    """A token of a file, as a hash; its name is empty where the file gives none."""

    name: str
    digest: bytes


@dataclass(frozen=True)
class Caller:
    """Who calls: the name of the token shown, and what its bearer may do."""

    name: str
    role: Role


class Tokens:
    """The tokens of a server.

    Raises:
        ConfigError: A file cannot be read, holds no token, or a line that is none.
    """

    def __init__(self, auth: Auth) -> None:
        files = ((Role.ADMIN, auth.admin_token_file), (Role.EMBED, auth.token_file))
        self._files = {
            role: Rotated("token file", [path], functools.partial(read_tokens, path))
            for role, path in files
            if path is not None
        }

    @property
    def closed(self) -> bool:
        """Whether embedding needs a token."""
        return Role.EMBED in self._files

    @property
    def administered(self) -> bool:
        """Whether there are tokens for administrators."""
        return Role.ADMIN in self._files

    def caller(self, authorization: str) -> Caller | None:
        """Returns who shows this `authorization` metadata; None for a wrong or missing token."""
        shown = authorization.encode("utf-8", "surrogateescape")
        scheme, token = shown[: len(_SCHEME)], shown[len(_SCHEME) :]
        digest = _digest(token.strip())
        found = None
        for role, file in self._files.items():
            for known in file.get():
                if hmac.compare_digest(known.digest, digest) and found is None:
                    found = Caller(known.name, role)
        return found if scheme.lower() == _SCHEME.encode() else None

    def look(self) -> None:
        """Reads the files again if they changed."""
        for file in self._files.values():
            file.look()


def read_tokens(path: Path) -> Sequence[Token]:
    """Reads a token file: `TOKEN` or `NAME TOKEN` a line; # at the start of a word begins a comment.

    Raises:
        ConfigError: It holds no token, or a line that is none; the message never shows the line.
        OSError: It cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise ConfigError(f"the token file {path} is not UTF-8") from None
    if others := stat.S_IMODE(path.stat().st_mode) & (stat.S_IRWXG | stat.S_IRWXO):
        _log.warning("token file open to others file=%r mode=%o advice=%r", str(path), others, "chmod 600")
    tokens = [token for number, line in enumerate(lines, 1) if (token := _token(path, number, line))]
    if not tokens:
        raise ConfigError(f"the token file {path} holds no token: write one a line")
    return tokens


def _token(path: Path, number: int, line: str) -> Token | None:
    words = line.split()
    comment = next((index for index, word in enumerate(words) if word.startswith("#")), len(words))
    if not (words := words[:comment]):
        return None
    if len(words) > 2:
        raise ConfigError(
            f"line {number} of the token file {path} has {len(words)} words, wanted [NAME] TOKEN"
        )
    if len(words[-1]) < _SHORT:
        _log.warning("token is short file=%r line=%d wanted_characters=%d", str(path), number, _SHORT)
    return Token(words[0] if len(words) == 2 else "", _digest(words[-1].encode()))


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()
