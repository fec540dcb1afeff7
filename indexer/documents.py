"""Documents on their way from rows to vectors. Pure: knows neither files nor pools."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from indexer.plan import SEPARATOR, Unit

HASH_BYTES = 16  # of a content hash: by chance two of 2^54 texts share one with a probability of 2^-20


class Reason(StrEnum):
    """Why a row has no vector; a pool's refusal is its status code and message instead."""

    UNREADABLE = "unreadable"
    DUPLICATE_ID = "duplicate id"
    NULL_ID = "null id"
    EMPTY_ID = "empty id"
    ID_NOT_TEXT = "id not text"
    NULL = "null"
    EMPTY = "empty"
    NOT_TEXT = "not text"
    TOO_LARGE = "too large"
    NOT_FINITE = "vector not finite"


@dataclass(frozen=True)
class Reject:
    """A row without a vector: `row` counts from 0 in its file, `reason` may carry detail behind a colon."""

    row: int
    doc_id: str | None
    reason: str


@dataclass(frozen=True)
class Chunk:
    """Some rows of one unit, as they were read.

    Attributes:
        unit: The unit that all rows belong to.
        first_row: Row of the file that is first here.
        ids: The id of each row as UTF-8, None for null.
        columns: For each text column, the text of each row as bytes, None for null.
        unreadable: Why none of these rows could be read, "" if they could; ids and texts are None then.
    """

    unit: Unit
    first_row: int
    ids: Sequence[bytes | None]
    columns: Sequence[Sequence[bytes | None]]
    unreadable: str = ""


@dataclass(frozen=True)
class Batch:
    """Texts of one unit that travel together.

    Attributes:
        number: Unique in a run, and rising in the order of rows.
        unit: The unit of all of them.
        rows: Row of the file for each text.
        doc_ids: Id of each.
        hashes: Content hash of each.
        texts: UTF-8 bytes of each.
        bytes: Bytes of all texts.
    """

    number: int
    unit: Unit
    rows: list[int]
    doc_ids: list[str]
    hashes: list[bytes]
    texts: list[bytes]
    bytes: int


@dataclass(frozen=True)
class Copies:
    """Rows of one unit whose texts stood in rows before.

    Attributes:
        unit: The unit of all of them.
        rows: Row of the file for each.
        doc_ids: Id of each.
        hashes: Content hash of each.
        sources: Row id of an earlier row with the same text.
    """

    unit: Unit
    rows: list[int] = field(default_factory=list)
    doc_ids: list[str] = field(default_factory=list)
    hashes: list[bytes] = field(default_factory=list)
    sources: list[int] = field(default_factory=list)

    def add(self, row: int, doc_id: str, name: bytes, source: int) -> None:
        """Takes a row more; `name` is its content hash."""
        self.rows.append(row)
        self.doc_ids.append(doc_id)
        self.hashes.append(name)
        self.sources.append(source)


@dataclass(frozen=True)
class UnitRead:
    """All rows of a unit were read: every one is in a batch or in copies before this, or in `rejects`."""

    unit: Unit
    rejects: list[Reject]


def join_texts(parts: Iterable[bytes | None], text_bytes: int) -> bytes | Reason:
    """Returns a document's text, its non-empty parts joined by a newline, or why it has none."""
    kept = []
    null = True
    for part in parts:
        if part is not None:
            null = False
            if part and not part.isspace():
                kept.append(part)
    if not kept:
        return Reason.NULL if null else Reason.EMPTY
    text = SEPARATOR.encode().join(kept) if len(kept) > 1 else kept[0]
    if len(text) > text_bytes:
        return Reason.TOO_LARGE
    try:
        # Spaces beyond ASCII show only in decoded text.
        return Reason.EMPTY if text.decode().isspace() else text
    except UnicodeDecodeError:
        return Reason.NOT_TEXT


def content_hash(text: bytes) -> bytes:
    """Returns the 16 bytes of BLAKE2b that name a document's text: equal texts have equal vectors."""
    return hashlib.blake2b(text, digest_size=HASH_BYTES).digest()


def read_id(raw: bytes | None) -> tuple[str | None, Reason | None]:
    """Returns a document's id, and why the row is rejected if it cannot be one."""
    if raw is None:
        return None, Reason.NULL_ID
    if not raw:
        return None, Reason.EMPTY_ID
    try:
        return raw.decode(), None
    except UnicodeDecodeError:
        return None, Reason.ID_NOT_TEXT


def count_reasons(rejects: Iterable[Reject]) -> Mapping[str, int]:
    """Returns how often each reason occurs, without its detail."""
    counts: defaultdict[str, int] = defaultdict(int)
    for reject in rejects:
        counts[reject.reason.split(":", 1)[0]] += 1
    return dict(sorted(counts.items()))
