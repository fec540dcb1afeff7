"""Files, folders and globs to the names of files, on any file system."""

import os
import re
from collections.abc import Iterator, Sequence
from fnmatch import translate
from pathlib import Path

from indexer.errors import InputError
from indexer.inputs.address import Address, read_address
from indexer.inputs.filesystems import Entry, listing, look

SUFFIX = ".parquet"
_MAGIC = re.compile(r"[*?[]")


def resolve(patterns: Sequence[str]) -> list[str]:
    """Returns the names of the files that are meant, sorted, each once.

    A pattern is a path or a URI: of a file, of a folder (all files below that end in .parquet; names that
    begin with a dot or an underscore are left out) or a glob (`*`, `?`, `[…]` in a name, `**` any folders;
    such names are found only by a pattern that begins so).
    A folder that a glob finds and whose name ends in .parquet is taken as a folder. Local names come back
    absolute, URIs without secrets.

    Raises:
        InputError: A pattern matches nothing, or a store cannot be asked.
        ConfigError: There is no such file system.
    """
    found: dict[str, str] = {}
    for pattern in patterns:
        names = list(_matches(pattern))
        if not names:
            raise InputError(
                f"--input {read_address(pattern).public} matches no file; "
                "give a Parquet file, a folder or a glob such as 'data/*.parquet'"
            )
        for name in sorted(names):
            found.setdefault(_identity(name), name)
    return sorted(found.values())


def _identity(name: str) -> str:
    """Returns what two names of one file have in common: a link leads to its target."""
    return name if read_address(name).scheme else os.path.realpath(name)


def _matches(pattern: str) -> Iterator[str]:
    address = _absolute(read_address(pattern))
    whole = look(address.private)
    if whole is None and _MAGIC.search(address.path):
        for entry in _expand(*_split(address)):
            yield from _files_of(entry)
    elif whole is not None and whole.is_folder:
        files = list(_files_below(whole.name))
        if not files:
            raise InputError(
                f"--input {whole.name} is a folder that holds no file *{SUFFIX}; "
                "give a Parquet file, another folder or a glob"
            )
        yield from files
    elif whole is not None:
        yield whole.name


def _absolute(address: Address) -> Address:
    """Makes a local path absolute, links to its folder followed, so that it is the same from everywhere."""
    if address.scheme:
        return address
    path = Path(os.path.abspath(address.path))  # noqa: PTH100 - Path.resolve would follow the file's own link
    fixed = next((at for at, part in enumerate(path.parts) if _MAGIC.search(part)), len(path.parts) - 1)
    base = os.path.realpath(Path(*path.parts[: max(1, fixed)]))
    return Address("", "", str(Path(base, *path.parts[max(1, fixed) :])))


def _split(address: Address) -> tuple[str, list[str]]:
    """Returns the folder before the first pattern, with the URI's secrets, and the parts behind."""
    parts = address.path.split("/")
    first = next(at for at, part in enumerate(parts) if _MAGIC.search(part))
    path = "/".join(parts[:first]) or "/"
    base = Address(address.scheme, address.host, path, address.options, address.user, address.secrets)
    return base.private, [part for part in parts[first:] if part]


def _expand(folder: str, parts: Sequence[str]) -> Iterator[Entry]:
    """Yields what matches the parts of a glob below a folder, one level of folders after the other."""
    entries = listing(folder)
    part, *rest = parts
    if part != "**":
        yield from _follow(entries, part, rest)
        return
    if rest:
        yield from _follow(entries, rest[0], rest[1:])
    for entry in entries:
        if entry.is_folder and not _is_hidden(_last(entry.name)):
            yield from _expand(entry.name, parts)
        elif not rest and not _is_hidden(_last(entry.name)):
            yield entry


def _follow(entries: Sequence[Entry], part: str, rest: Sequence[str]) -> Iterator[Entry]:
    wanted = re.compile(translate(part))
    for entry in entries:
        name = _last(entry.name)
        # As in a shell: what is hidden is found only by a pattern that begins so.
        if wanted.match(name) and (part[0] == name[0] or not _is_hidden(name)):
            if not rest:
                yield entry
            elif entry.is_folder:
                yield from _expand(entry.name, rest)


def _files_of(entry: Entry) -> Iterator[str]:
    if entry.is_file:
        yield entry.name
    elif entry.is_folder and _last(entry.name).endswith(SUFFIX):
        # An empty one is told when it is described, as any other file that cannot be read.
        yield from list(_files_below(entry.name)) or [entry.name]


def _files_below(folder: str) -> Iterator[str]:
    start = len(read_address(folder).path.rstrip("/"))
    for entry in listing(folder, recursive=True):
        path = read_address(entry.name).path
        if entry.is_file and path.endswith(SUFFIX) and not any(map(_is_hidden, path[start:].split("/"))):
            yield entry.name


def _is_hidden(part: str) -> bool:
    """Whether a name marks what is no data; a partition such as `_day=1` does not."""
    return part.startswith(".") or (part.startswith("_") and "=" not in part)


def _last(name: str) -> str:
    return read_address(name).path.rstrip("/").rpartition("/")[2]
