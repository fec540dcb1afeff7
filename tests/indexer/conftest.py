"""Parquet files and models for tests of the indexer's parts."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from indexer.plan import Model

WriteParquet = Callable[..., Path]


@pytest.fixture
def write_parquet(tmp_path: Path) -> WriteParquet:
    """Writes `name` with columns given by name; `row_group` rows a group."""

    def write(
        name: str = "a.parquet", *, row_group: int = 1 << 20, **columns: Sequence[Any] | pa.Array
    ) -> Path:
        path = tmp_path / name
        pq.write_table(pa.table(columns), path, row_group_size=row_group)
        return path

    return write


@pytest.fixture
def model() -> Model:
    """A model of four values, described but never run."""
    return Model(fingerprint="f" * 64, name="four", dim=4, normalized=False)
