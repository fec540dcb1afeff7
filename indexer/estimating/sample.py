"""Some documents of the inputs, in memory: a fair sample, in random order."""

import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter

from indexer.config import OnError, PlanConfig
from indexer.documents import Chunk
from indexer.errors import InputError
from indexer.estimating.places import choose_rows
from indexer.inputs import parquet
from indexer.plan import InputFile, Unit

SEED = 20_000  # of places and order; arbitrary
_ROWS = 10_000  # of a sample at most: leaves the mean length of documents open by a percent or so
_BYTES = 128 << 20  # text that a sample may hold
_SECONDS = 60.0  # in which it should be read: stores may be slow

Row = tuple[bytes | None, tuple[bytes | None, ...]]  # id, and the text of each column


@dataclass(frozen=True)
class Sample:
    """Rows of the inputs.

    Attributes:
        rows: Id and texts of each, in random order.
        total: Rows of all inputs.
        files: Files that some of them are of.
        of_files: Number of all files.
    """

    rows: tuple[Row, ...]
    total: int
    files: int
    of_files: int

    @property
    def whole(self) -> bool:
        """Whether these are all rows that there are."""
        return len(self.rows) == self.total

    def chunks(self, unit_rows: int) -> Iterator[Chunk]:
        """Yields them as units of one file, without end unless they are all rows: then once."""
        number = base = 0
        while not number or not self.whole:
            for start in range(0, len(self.rows), unit_rows):
                some = self.rows[start : start + unit_rows]
                unit = Unit(number, 0, base, len(some), base)
                columns = list(zip(*(texts for _, texts in some), strict=True))
                yield Chunk(unit, base, [doc_id for doc_id, _ in some], columns)
                number, base = number + 1, base + len(some)


def read_sample(
    files: Sequence[InputFile], config: PlanConfig, on_error: OnError, rows: int = _ROWS
) -> Sample:
    """Reads a sample of inputs, file after file in random order, until it is whole, large enough or too slow.

    Raises:
        InputError: There is no row, or a file cannot be read.
    """
    total = sum(file.rows for file in files)
    blocks = [list(some) for _, some in groupby(choose_rows(files, rows, SEED), key=attrgetter("file"))]
    dice = random.Random(SEED)  # noqa: S311 - a sample, no secret
    dice.shuffle(blocks)
    found: list[Row] = []
    held, read, deadline = 0, 0, time.monotonic() + _SECONDS
    for of_file in blocks:
        if held > _BYTES or (found and time.monotonic() > deadline):
            break
        for row in _rows(files[of_file[0].file], config, of_file, on_error):
            found.append(row)
            held += sum(len(text or b"") for text in row[1])
            if held > _BYTES:
                break
        read += 1
    if not found:
        raise InputError(
            "the inputs hold no row: there is nothing to estimate from; name others with --input"
        )
    dice.shuffle(found)
    return Sample(tuple(found), total, read, len(files))


def _rows(file: InputFile, config: PlanConfig, units: Sequence[Unit], on_error: OnError) -> Iterator[Row]:
    for chunk in parquet.read_chunks(file, config.id_column, config.text_columns, units, on_error):
        yield from zip(chunk.ids, zip(*chunk.columns, strict=True), strict=True)
