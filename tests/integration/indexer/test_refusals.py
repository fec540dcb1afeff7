"""What a run, a search and a verification refuse: one line that says what to do, and nothing lost."""

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

StartWorker = Callable[..., Any]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Twelve documents in one file."""
    path = tmp_path / "corpus.parquet"
    pq.write_table(
        pa.table(
            {
                "doc_id": [f"d{n}" for n in range(12)],
                "title": ["t"] * 12,
                "text": [f"text {n}" for n in range(12)],
            }
        ),
        path,
    )
    return path


def _error(done: Any) -> str:
    """Returns the error line of a command that failed."""
    line: str = done.stderr.splitlines()[-1]
    return line.removeprefix("error: ")


def test_a_changed_request_is_refused_by_name(
    corpus: Path, tiny_bundle: Path, start_worker: StartWorker, indexer: Any, tmp_path: Path
) -> None:
    """Another setting is named, and the index stays as it was; one of some rows takes no further files."""
    address, index = start_worker(tiny_bundle, "--processes", "1").address, tmp_path / "index"
    run = ["run", "--input", tmp_path / "*.parquet", "--worker", address]
    indexer.run(*run, "--output", index)
    before = indexer.tree(index)
    for option, words in (
        (["--limit", "5"], "limit was None, now 5"),
        (["--vector-type", "float16"], "vector type was float32, now float16"),
        (["--text-columns", "text"], "text columns was title,text, now text"),
    ):
        assert words in _error(indexer.run(*run, "--output", index, *option, code=1))
    assert indexer.tree(index) == before
    some = [*run, "--output", tmp_path / "some", "--limit", "5"]
    indexer.run(*some)
    other = tmp_path / "other.parquet"
    pq.write_table(pa.table({"doc_id": ["x"], "title": ["t"], "text": ["more"]}), other)
    assert f"{other} is new or has changed; an index of some rows" in _error(indexer.run(*some, code=1))


def test_an_input_that_went_away_early_is_asked_for(
    corpus: Path, tiny_bundle: Path, start_worker: StartWorker, indexer: Any, tmp_path: Path
) -> None:
    """Rows of a file that is not named any more stay, but not if some were never embedded."""
    index = tmp_path / "index"
    address = start_worker(tiny_bundle, "--processes", "1").address
    other = tmp_path / "other.parquet"
    pq.write_table(pa.table({"doc_id": ["x"], "title": ["t"], "text": ["more"]}), other)
    run = ["run", "--input", tmp_path / "*.parquet", "--output", index, "--worker", address]
    indexer.run(*run)
    receipt = index / "units" / "000001.receipt.json"
    kept = receipt.read_bytes()
    other.unlink()
    before = indexer.tree(index)
    assert f"{other} is no longer among the inputs; its documents stay" in indexer.run(*run).stderr
    assert indexer.tree(index) == before
    receipt.unlink()
    assert f"{other} is no longer among the inputs, and its rows from 0" in _error(indexer.run(*run, code=1))
    receipt.write_bytes(kept)
    indexer.run(*run)


def test_another_model_is_refused_naming_both(
    corpus: Path,
    tiny_bundle: Path,
    tiny_fp32_bundle: Path,
    start_worker: StartWorker,
    indexer: Any,
    tmp_path: Path,
) -> None:
    """Vectors of two models never meet: run, search and verify each name both fingerprints."""
    index = tmp_path / "index"
    right, wrong = start_worker(tiny_bundle).address, start_worker(tiny_fp32_bundle).address
    run = ["run", "--input", corpus, "--output", index]
    indexer.run(*run, "--worker", right)
    names = [
        json.loads((bundle / "manifest.json").read_text())["fingerprint"][:12]
        for bundle in (tiny_bundle, tiny_fp32_bundle)
    ]
    assert names[0] != names[1]
    for command in ([*run], ["search", "--index", index, "word"]):
        error = _error(indexer.run(*command, "--worker", wrong, code=1))
        assert all(name in error for name in names), error
    verified = indexer.run("verify", "--index", index, "--worker", wrong, code=1).stdout
    assert all(name in verified for name in names)
    mixed = _error(indexer.run(*run[:-1], tmp_path / "new", "--worker", f"{right},{wrong}", code=1))
    assert all(name in mixed for name in names)


def test_a_worker_that_is_not_there(corpus: Path, indexer: Any, tmp_path: Path) -> None:
    """The message says where none was found and how to start one; a bundle that is none says so too."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
    run = ["run", "--input", corpus, "--output", tmp_path / "i"]
    error = _error(indexer.run(*run, "--worker", address, "--retry-seconds", "0.5", code=1))
    assert f"cannot reach a worker at {address}" in error
    assert "python -m worker serve" in error
    error = _error(indexer.run(*run, "--bundle", tmp_path, code=1))
    assert f"the pool for bundle {tmp_path} did not start" in error
    assert "manifest.json" in error


@pytest.mark.parametrize(
    ("columns", "cut", "words"),
    [
        ({"doc_id": ["a"], "body": ["b"]}, 0, "has no column 'title'; its columns are: doc_id, body"),
        ({"doc_id": ["a"], "title": ["t"], "text": ["b"]}, 30, "is no readable Parquet file"),
        ({"doc_id": [0.5], "title": ["t"], "text": ["b"]}, 0, "id column 'doc_id' is double"),
    ],
)
def test_inputs_that_cannot_be_indexed(
    columns: dict[str, Any], cut: int, words: str, indexer: Any, tmp_path: Path
) -> None:
    """Wrong inputs are refused before any pool is asked, in one line that names the file."""
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table(columns), path)
    path.write_bytes(path.read_bytes()[: -cut or None])
    run = ["run", "--input", path, "--output", tmp_path / "index", "--worker", "127.0.0.1:1"]
    error = _error(indexer.run(*run, code=1))
    assert words in error
    assert str(path) in error


def test_duplicate_ids_are_found_before_anything_is_embedded(
    tiny_bundle: Path, start_worker: StartWorker, indexer: Any, tmp_path: Path
) -> None:
    """An id in two files ends the run with both places; no plan is frozen, so the mended input can go on."""
    for name in ("a", "b"):
        pq.write_table(
            pa.table({"doc_id": ["x", name], "text": ["one", "two"]}), tmp_path / f"{name}.parquet"
        )
    address = start_worker(tiny_bundle, "--processes", "1").address
    run = ["run", "--input", tmp_path / "*.parquet", "--output", tmp_path / "index", "--worker", address]
    error = _error(indexer.run(*run, "--text-columns", "text", code=1))
    assert f"'x' is there twice: {tmp_path / 'a.parquet'} row 0 and {tmp_path / 'b.parquet'} row 0" in error
    assert not (tmp_path / "index" / "plan.json").exists()
    pq.write_table(pa.table({"doc_id": ["z", "b"], "text": ["one", "two"]}), tmp_path / "b.parquet")
    indexer.run(*run, "--text-columns", "text")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "--input", "a", "--output", "o"], "give one of --worker HOST:PORT"),
        (["run", "--input", "a", "--output", "o", "--worker", "x", "--unit-rows", "0"], "unit rows is 0"),
        (["run", "--output", "o"], "Missing option '--input'"),
        (["run", "--nonsense"], "No such option"),
        (["search", "--index", "i", "--worker", "x"], "give one of a query and --queries FILE"),
        (["nonsense"], "No such command 'nonsense'"),
    ],
)
def test_wrong_usage_is_exit_code_two(arguments: list[str], words: str, indexer: Any) -> None:
    """A command that cannot be meant is told in one line what it lacks."""
    assert words in _error(indexer.run(*arguments, code=2))


@pytest.mark.parametrize(
    ("name", "damage", "check"),
    [
        ("units/000000.parquet", lambda data: data[:-9] + b"x" + data[-8:], "checksums"),
        (
            "units/000000.receipt.json",
            lambda data: data.replace(b'"vectors": 12', b'"vectors": 11'),
            "units",
        ),
        ("faiss/000001/000000.faiss", lambda data: data[:-1] + b"\x01", "faiss"),
        ("CURRENT", lambda data: b"faiss/000009\n", "faiss"),
        ("plan.json", lambda data: data[:50], "receipts"),
    ],
)
def test_verify_names_what_is_damaged(
    name: str,
    damage: Callable[[bytes], bytes],
    check: str,
    corpus: Path,
    tiny_bundle: Path,
    indexer: Any,
    tmp_path: Path,
) -> None:
    """One changed file of an index: the check that meets it fails by name, with exit code 1."""
    index = tmp_path / "index"
    indexer.run("run", "--input", corpus, "--output", index, "--bundle", tiny_bundle)
    file = index / name
    changed = damage(file.read_bytes())
    assert changed != file.read_bytes()
    file.write_bytes(changed)
    done = indexer.run("verify", "--index", index, code=1)
    assert f"FAIL {check}: " in done.stdout
    assert check in _error(done)
