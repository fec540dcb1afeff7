"""The file systems behind names of inputs: local, Arrow's own (S3, GCS, Azure, HDFS), any of fsspec.

Secrets of URIs stay in this process's memory: a plan's name finds them there; another process takes them from
where Arrow looks (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL, ~/.aws, …).
"""

from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.fs as pafs

from indexer.errors import ConfigError, InputAwayError, InputError
from indexer.inputs.address import Address, read_address
from indexer.inputs.s3 import open_s3

_SYSTEMS = 64  # kept open; arbitrary, stores seen at once are few

# What reading a damaged file raises; names in its footer that are no text come as a bare UnicodeDecodeError.
DAMAGE = (pa.ArrowException, OSError, UnicodeDecodeError)

_known: dict[str, Address] = {}  # addresses with secrets by their store, see above


@dataclass(frozen=True)
class Entry:
    """What a file system says of a name: its bytes; the last change in ns since the epoch (0: unknown)."""

    name: str
    is_file: bool
    is_folder: bool
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class Location:
    """A path on a file system, and the name by which plans and messages know it."""

    system: Any
    path: str
    address: Address

    @property
    def name(self) -> str:
        """The local path, or the URI without secrets."""
        return self.address.public

    @property
    def is_local(self) -> bool:
        """Whether it lies on this machine's own file systems."""
        return not self.address.scheme


def locate(name: str) -> Location:
    """Returns where a name leads; nothing has to be there.

    Raises:
        ConfigError: There is no such file system, or a package for it is missing.
    """
    address = read_address(name)
    if not address.scheme:
        return Location(_local(), address.path, address)
    known = address if address.user or address.secrets else _known.get(address.store, address)
    address = Address(address.scheme, address.host, address.path, address.options, known.user, known.secrets)
    try:
        system, path = _remote(address)
    except (ValueError, ImportError, OSError, NotImplementedError) as error:
        raise ConfigError(
            f"cannot open the file system of {address.public} ({scrub(first_line(error), address)}); "
            "check the URI and its options"
        ) from error
    if address.user or address.secrets:
        _known[address.store] = address
    return Location(system, path, address)


@lru_cache(1)
def _local() -> Any:
    return pafs.LocalFileSystem()


def _remote(address: Address) -> tuple[Any, str]:
    """Returns the file system of a URI and the path in it: Arrow's where it has one, else fsspec's."""
    if address.scheme == "s3":
        return open_s3(
            address.host, address.options, address.user, address.secrets
        ), address.host + address.path
    root = Address(address.scheme, address.host, "/", address.options, address.user, address.secrets)
    try:
        system, base = _arrow(root.private)
    except pa.ArrowInvalid as error:
        if "Unrecognized filesystem" not in str(error):
            raise
        return _fsspec(address)
    return system, base.rstrip("/") + address.path


@lru_cache(_SYSTEMS)
def _arrow(uri: str) -> tuple[Any, str]:
    found: tuple[Any, str] = pafs.FileSystem.from_uri(uri)
    return found


def _fsspec(address: Address) -> tuple[Any, str]:
    try:
        from fsspec.core import url_to_fs
    except ImportError as error:
        raise ImportError(
            f"{address.scheme}:// needs fsspec: pip install 'embedpool[fsspec]' and the package of that store"
        ) from error
    system, path = url_to_fs(address.private)
    return pafs.PyFileSystem(pafs.FSSpecHandler(system)), path


def look(name: str) -> Entry | None:
    """Returns what is at a name, None when nothing is there; raises InputError when that cannot be told."""
    place = locate(name)
    try:
        return _entry(place.name, place.system.get_file_info(place.path))
    except Exception as error:  # file systems of fsspec raise anything
        raise failure(name, error) from error


def listing(folder: str, *, recursive: bool = False) -> list[Entry]:
    """Returns what lies in a folder, sorted by name; nothing when there is no such folder.

    Raises:
        InputError: The folder cannot be listed.
    """
    place = locate(folder)
    try:
        found = place.system.get_file_info(
            pafs.FileSelector(place.path, allow_not_found=True, recursive=recursive)
        )
    except Exception as error:  # file systems of fsspec raise anything
        raise failure(folder, error) from error
    base, start = place.address, len(place.path.rstrip("/"))
    names = (
        Address(base.scheme, base.host, base.path.rstrip("/") + info.path[start:], base.options).public
        for info in found
    )
    entries = (_entry(name, info) for name, info in zip(names, found, strict=True))
    return sorted((entry for entry in entries if entry is not None), key=lambda entry: entry.name)


def _entry(name: str, info: Any) -> Entry | None:
    if info.type == pafs.FileType.NotFound:
        return None
    return Entry(
        name=name,
        is_file=info.type == pafs.FileType.File,
        is_folder=info.type == pafs.FileType.Directory,
        size=info.size or 0,
        mtime_ns=_nanoseconds(info),
    )


def _nanoseconds(info: Any) -> int:
    """Returns the time of the last change; some file systems of fsspec tell none, or as text."""
    mtime = info.mtime if isinstance(info.mtime, datetime) else None
    return 0 if mtime is None or info.mtime_ns is None else int(info.mtime_ns)


def failure(name: str, error: BaseException) -> InputError:
    """Returns what to tell when an input cannot be opened or read, without any secret."""
    if isinstance(error, InputError):
        return error
    public, said = read_address(name).public, scrub(first_line(error))
    if isinstance(error, FileNotFoundError):
        return InputError(f"input {public} is not there; check --input")
    if isinstance(error, PermissionError) or "ACCESS_DENIED" in said:
        return InputError(
            f"input {public} may not be read ({said}); allow this user to read it, or leave it out"
        )
    if is_away(error):
        return InputAwayError(
            f"the store of {public} does not answer ({said}); what is committed is kept: "
            "run the same command when it does"
        )
    return InputError(
        f"{public} is no readable Parquet file ({said}); it may be truncated: write it again, or leave it out"
    )


def is_away(error: BaseException) -> bool:
    """Whether a store failed, not the content of a file: the same read may succeed later."""
    if not isinstance(error, DAMAGE) or isinstance(error, (ConnectionError, TimeoutError, InputAwayError)):
        return True
    # Arrow's own complaints about content carry no errno.
    return "AWS Error" in str(error) or (isinstance(error, OSError) and error.errno is not None)


def scrub(text: str, *more: Address) -> str:
    """Returns a text without the secrets of any URI that was opened, or of `more`."""
    secrets = {part for known in (*_known.values(), *more) for part in _secret_parts(known)}
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def _secret_parts(address: Address) -> list[str]:
    parts = [address.user, *address.user.split(":"), *address.secrets.split("&")]
    parts += [option.partition("=")[2] for option in address.secrets.split("&")]
    return [form for part in parts if part for form in (part, unquote(part))]


def first_line(error: BaseException) -> str:
    """Returns the first line of what pyarrow says."""
    return str(error).strip().split("\n", 1)[0] or type(error).__name__
