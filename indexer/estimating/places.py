"""Which rows make a fair sample that can be read quickly. Pure; the same seed gives the same rows.

All rows of all files are one line, cut into pieces of equal length; of each a block of rows is taken at a
random place. So every file and every row group has its share, whatever order they are in.
"""

import random
from collections.abc import Sequence
from itertools import accumulate

from indexer.plan import InputFile, Unit

_BLOCK_ROWS = 8  # taken together: neighbours are alike, and coming to a place costs more than reading rows
# Rows that may be decoded to come to the blocks: a row group is read from its start. At 4 µs a row
# (`inputs.parquet`) that is some seconds.
_DECODED_ROWS = 1_000_000
_FEWEST_BLOCKS = 64  # below so many, a sample says little about the whole; arbitrary


def choose_rows(files: Sequence[InputFile], wanted: int, seed: int) -> list[Unit]:
    """Returns blocks of rows, as units numbered in the order of files and rows; all rows if there are so few.

    Args:
        files: The inputs.
        wanted: Rows to take, about; fewer where row groups are so large that reading them takes too long.
        seed: Decides the places.
    """
    ends = list(accumulate(file.rows for file in files))
    total = ends[-1] if ends else 0
    if total <= wanted:
        return _units([(number, 0, file.rows) for number, file in enumerate(files) if file.rows])
    blocks = _block_count(files, wanted, total)
    size = max(1, wanted // blocks)
    dice = random.Random(seed)  # noqa: S311 - a sample, no secret
    found = []
    number, before = 0, 0
    for block in range(blocks):
        first, stop = total * block // blocks, total * (block + 1) // blocks
        place = dice.randrange(first, max(first + 1, stop - size + 1))
        while place >= ends[number]:
            before = ends[number]
            number += 1
        start = place - before
        found.append((number, start, min(size, files[number].rows - start, stop - place)))
    return _units(found)


def _block_count(files: Sequence[InputFile], wanted: int, total: int) -> int:
    """Returns how many blocks can be read: each costs half a row group, one row group at most once."""
    groups = sum(1 for file in files for rows in file.row_groups if rows)
    blocks = max(1, wanted // _BLOCK_ROWS)
    readable = max(_FEWEST_BLOCKS, _DECODED_ROWS * groups // total)
    # Where all row groups together are no more than may be decoded, any number of places costs the same.
    return min(blocks, wanted, blocks if total <= _DECODED_ROWS else readable)


def _units(places: list[tuple[int, int, int]]) -> list[Unit]:
    units = []
    base = 0
    for number, (file, start, rows) in enumerate(places):
        units.append(Unit(number, file, start, rows, base))
        base += rows
    return units
