"""`estimate` against the run that it estimates: the same documents, the same pool."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from build_models.quality.docstrings import Docstring
from tests.integration.indexer.conftest import Indexer

ROWS = 600


@pytest.fixture
def corpus(some_docstrings: list[Docstring], tmp_path: Path) -> Path:
    """Three files in row groups of 64; every ninth row has no text."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    for number in range(3):
        part = some_docstrings[number * 200 : (number + 1) * 200]
        table = pa.table(
            {
                "doc_id": [f"document {number} {one.qualified_name}" for one in part],
                "title": [None for _ in part],
                "text": [None if at % 9 == 0 else one.text for at, one in enumerate(part)],
            }
        )
        pq.write_table(table, folder / f"{number}.parquet", row_group_size=64)
    return folder


@pytest.fixture(scope="module")
def target(start_shared_worker: Callable[..., Any], tiny_bundle: Path) -> str:
    """Address of a pool of one process, for all tests here."""
    address: str = start_shared_worker(tiny_bundle, "--processes", "1").address
    return address


def _size(folder: Path, pattern: str = "*") -> int:
    return sum(path.stat().st_size for path in folder.rglob(pattern) if path.is_file())


def test_what_is_estimated_is_what_a_run_leaves(
    indexer: Indexer, target: str, corpus: Path, tmp_path: Path
) -> None:
    """Vectors, rejects, units, and the sizes of units, receipts, plan and FAISS index are the run's."""
    common = ("--input", corpus, "--worker", target, "--unit-rows", "64")
    found = indexer.run(
        "estimate", *common, "--seconds", "30", "--json", "-", "--machines", "3,1",
        "--within", "1", "--price-per-core-hour", ".5", "--queries-per-second", "10",
    )  # fmt: skip
    said = json.loads(found.stdout)
    index = tmp_path / "index"
    summary = tmp_path / "summary.json"
    indexer.run("run", *common, "--output", index, "--summary", summary)
    real = json.loads(summary.read_text())
    measured, volume = said["measured"], said["volume"]
    assert measured["complete"]
    assert measured["sample_rows"] == measured["rows"] == real["rows"] == ROWS
    assert measured["files"] == measured["sample_files"] == 3
    assert (volume["documents"], volume["rejects"]) == (ROWS, sum(real["rejects"].values()))
    # Texts that stand twice are embedded once by the run; their vectors are there all the same.
    assert volume["vectors"] == real["vectors"]
    assert volume["units"] == len(list((index / "units").glob("*.receipt.json"))) == 12
    # Of these short vectors half is ids, and ids in random order compress less; of real ones it is 1 %.
    assert volume["unit_bytes"] == pytest.approx(_size(index / "units", "*.parquet"), rel=0.05)
    assert volume["receipt_bytes"] == pytest.approx(_size(index / "units", "*.json"), rel=0.03)
    assert volume["plan_bytes"] == pytest.approx((index / "plan.json").stat().st_size, rel=0.02)
    assert volume["reject_bytes"] == pytest.approx(_size(index / "rejects"), rel=0.1)
    assert said["index"]["key"] == real["index"]["key"]
    assert said["index"]["bytes"] == pytest.approx(real["index"]["bytes"], rel=0.02)
    rate = measured["documents_per_second"]
    assert 0 < rate["low"] <= rate["mean"] <= rate["high"]
    one, three = said["machines"]
    assert (one["machines"], three["machines"]) == (1, 3)
    assert three["embed_seconds"] == pytest.approx(one["embed_seconds"] / 3)
    assert said["machines_needed"] == 1
    assert min(one["price"], said["search_cores"]) > 0


def test_an_estimate_goes_on_beyond_its_inputs(
    indexer: Indexer, target: str, corpus: Path, tmp_path: Path
) -> None:
    """For people: a billion documents like these, chunked and in half precision; a file has the figures."""
    file = tmp_path / "estimate.json"
    found = indexer.run(
        "estimate", "--input", corpus, "--worker", target, "--seconds", "3", "--documents", "1000000000",
        "--chunk-tokens", "32", "--vector-type", "float16", "--json", file,
        "--max-index-memory-usage", "2TB", "--within", "0.0001",
    )  # fmt: skip
    said = json.loads(file.read_text())
    assert said["volume"]["documents"] == 10**9
    assert said["measured"]["vectors_per_document"] > 1
    assert said["index"]["key"].startswith("IVF")
    assert said["machines_needed"] == 0
    assert "no number of machines is enough" in found.stdout
    assert "computed for 1,000,000,000 documents like these" in found.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--seconds", "0"), 2, "seconds is 0"),
        (("--documents", "-4"), 2, "documents is -4"),
        (("--machines", "2,x"), 2, "wanted whole numbers with commas"),
        (("--machines", "0"), 2, "machines is 0"),
        (("--within", "nan"), 2, "within is nan"),
        (("--text-columns", "body"), 1, "has no column 'body'"),
        (("--max-index-memory-usage", "1kB"), 2, "do not fit into 1 kB"),
    ],
)
def test_wishes_that_cannot_be_are_refused_in_one_line(
    indexer: Indexer, target: str, corpus: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    """Also a wish that only the figures show to be impossible."""
    common = ("--input", corpus, "--worker", target, "--seconds", "2")
    assert words in indexer.run("estimate", *common, *arguments, code=code).stderr
