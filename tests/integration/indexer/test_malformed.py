"""Bad input: dozens of malformed files, each one line or counted rejects, never the end of a process."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.integration.indexer.malformed import ROWS, make_malformed, parquet_bytes, table

StartWorker = Callable[..., Any]
SECONDS = 120.0

# Damage that no reader can see: a footer's statistics, and bytes before the footer that belong to nothing.
HARMLESS = {"footer_flipped_at_0.6", "two_glued"}
# Files of the table whose rows are wrong, not they themselves.
NO_DOCUMENTS = {
    "rows_none": {},
    "row_groups_none": {},
    "rows_null_ids": {"null id": ROWS},
    "rows_null_type_ids": {"null id": ROWS},
    "rows_empty_ids": {"empty id": ROWS},
    "rows_ids_no_text": {"id not text": ROWS},
    "rows_texts_no_text": {"not text": ROWS},
    "rows_texts_cut_in_a_letter": {"not text": ROWS},
    "rows_null_texts": {"null": ROWS},
    "rows_blank_texts": {"empty": ROWS},
    "rows_same_id": {"duplicate id": ROWS - 1},
}


@pytest.fixture
def malformed(tmp_path: Path) -> dict[str, Path]:
    """Every malformed file by its name, in one folder."""
    return make_malformed(tmp_path / "malformed")


def _read_in_a_process(folder: Path) -> list[dict[str, Any]]:
    """Returns what came of each file; fails when the process ends by a signal or an exception."""
    program = Path(__file__).with_name("malformed.py")
    root = str(program.parents[3])
    done = subprocess.run(
        [sys.executable, program, folder],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        env={**os.environ, "PYTHONPATH": root},
    )
    last = done.stdout.splitlines()[-1:]
    assert done.returncode == 0, f"ended with {done.returncode} after {last}:\n{done.stderr}"
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_every_malformed_file_is_one_line_or_counted_rejects(malformed: dict[str, Path]) -> None:
    """No file ends the process; each is told in one line that names it, or its rows are accounted for.

    With bad input left out, what can be read is read, and the same rows are rejected the second time.
    """
    assert len(malformed) >= 50
    outcomes = _read_in_a_process(next(iter(malformed.values())).parent)
    assert [one["name"] for one in outcomes] == sorted(malformed)
    for one in outcomes:
        name, stop = one["name"], one["stop"]
        if name in HARMLESS or (name == "not_allowed" and os.geteuid() == 0):
            assert (stop, one["documents"]) == ("", ROWS), one
        elif name in NO_DOCUMENTS or name == "rows_ids_of_another_file":
            _check_rows(one)
        else:
            assert str(malformed[name]) in stop, one
            assert "\n" not in stop, one
            if "rows" in one:
                assert {reason.split(":")[0] for reason in one["rejects"]} == {"unreadable"}, one
        if "rows" in one:
            assert one["documents"] + len(one["rejects"]) == one["rows"], one
    assert _read_in_a_process(next(iter(malformed.values())).parent) == outcomes


def _check_rows(one: dict[str, Any]) -> None:
    twice = one["name"] in ("rows_same_id", "rows_ids_no_text")
    assert ("is there twice" in one["stop"]) == twice, one
    counts = dict(Counter(reason.split(":")[0] for reason in one["rejects"]))
    assert counts == NO_DOCUMENTS.get(one["name"], {}), one


@pytest.fixture(scope="module")
def address(tiny_bundle: Path, start_shared_worker: StartWorker) -> str:
    """A pool that the runs of this file share."""
    return str(start_shared_worker(tiny_bundle, "--processes", "1").address)


@pytest.mark.parametrize(
    "name",
    ["empty", "cut_at_50_percent", "text_list", "a_folder", "page_of_id_with_checksum", "rows_same_id"],
)
def test_a_bad_file_stops_a_run_before_anything_is_written(
    name: str, malformed: dict[str, Path], address: str, indexer: Any, tmp_path: Path
) -> None:
    """By default a bad file among good ones is one line that names it, exit code 1, no plan and no unit."""
    good = tmp_path / "good.parquet"
    good.write_bytes(parquet_bytes(table("fine")))
    done = indexer.run(
        *("run", "--input", good, "--input", f"{malformed[name]}*", "--worker", address),
        *("--output", tmp_path / "index"),
        code=1,
    )
    (line,) = done.stderr.splitlines()
    assert str(malformed[name]) in line
    assert not [path for path in indexer.tree(tmp_path / "index") if not path.startswith(".")]


def test_a_page_that_is_found_bad_while_embedding_leaves_no_half_unit(
    malformed: dict[str, Path], address: str, indexer: Any, tmp_path: Path
) -> None:
    """Damage in texts shows late: what was committed is whole, no bad row is in it, and skipping goes on."""
    run = ["run", "--input", malformed["page_of_text_with_checksum"], "--output", tmp_path / "index"]
    run += ["--unit-rows", "20", "--worker", address]
    done = indexer.run(*run, code=1)
    assert "row group 1" in done.stderr.splitlines()[-1]
    units = [name for name in indexer.tree(tmp_path / "index") if name.startswith("units/")]
    assert units in ([], ["units/000000.parquet"])
    indexer.run(*run, "--on-error", "skip")
    assert _indexed(tmp_path / "index") == {f"page2-{row}" for row in (*range(20), *range(40, 60))}
    indexer.run("verify", "--index", tmp_path / "index")


def test_good_rows_among_malformed_files_are_indexed(
    malformed: dict[str, Path], address: str, indexer: Any, tmp_path: Path
) -> None:
    """With `--on-error skip` one run over every malformed file and a good one indexes each good row once.

    Whatever the order of files says is first stands where an id is there twice, so that a second run over the
    same folder gives the same bytes.
    """
    folder = next(iter(malformed.values())).parent
    (folder / "fine.parquet").write_bytes(parquet_bytes(table("fine")))
    run = ["run", "--input", str(folder / "*"), "--unit-rows", "16", "--worker", address]
    run += ["--on-error", "skip", "--output"]
    indexer.run(*run, tmp_path / "index")
    whole = {"fine", "good", "footer", *(["secret"] if os.geteuid() == 0 else [])}
    expected = {f"{prefix}-{row}" for prefix in whole for row in range(ROWS)} | {"same"}
    expected |= {f"page{n}-{row}" for n in range(3) for row in (*range(20), *range(40, 60))}
    assert _indexed(tmp_path / "index") == expected
    indexer.run("verify", "--index", tmp_path / "index")
    indexer.run(*run, tmp_path / "again")
    assert indexer.tree(tmp_path / "again") == indexer.tree(tmp_path / "index")


def _indexed(index: Path) -> set[str]:
    """Returns the ids of all documents in the units, each of which must stand once."""
    ids = [
        one
        for path in sorted((index / "units").glob("*.parquet"))
        for one in pq.read_table(path)["doc_id"].to_pylist()
    ]
    assert len(set(ids)) == len(ids)
    return set(ids)
