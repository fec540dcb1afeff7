"""Inputs in an object store: a real S3-compatible server on loopback, through Arrow and the whole road."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest

from indexer.config import OnError, PlanConfig
from indexer.errors import ConfigError, InputAwayError, InputError
from indexer.inputs import files as inputs
from indexer.inputs import parquet, s3
from indexer.inputs.columns import ColumnReader
from indexer.inputs.filters import mask, parse
from indexer.plan import Model, Plan, make_plan
from indexer.store.plan_file import plan_text
from tests.integration.indexer.object_store import KEY, SECRET, Gate, object_store

StartWorker = Callable[..., Any]
ROWS = 40
CONFIG = PlanConfig(text_columns=("text",), unit_rows=16)
MODEL = Model(fingerprint="f" * 64, name="four", dim=4, normalized=False)


@pytest.fixture(scope="module")
def gate() -> Iterator[Gate]:
    """A store with a bucket, which the variables of AWS tools name."""
    with object_store() as opened, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", opened.url)
        patch.setenv("AWS_ACCESS_KEY_ID", KEY)
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        _system(opened).create_dir("bucket")
        yield opened


@pytest.fixture
def corpus(gate: Gate) -> Iterator[str]:
    """Three good files among others below s3://bucket/corpus, and the gate open again afterwards."""
    system = _system(gate)
    for number, folder in enumerate(("lang=de", "lang=en/year=2020", "lang=%2Fx")):
        ids = [f"{number}-{row}" for row in range(ROWS)]
        table = pa.table({"doc_id": ids, "text": [f"text {n} of {folder}" for n in ids]})
        with system.open_output_stream(f"bucket/corpus/{folder}/part.parquet") as out:
            pq.write_table(table, out, row_group_size=15)
    for name in ("_temporary/a.parquet", ".hidden.parquet", "_SUCCESS", "note.txt"):
        with system.open_output_stream(f"bucket/corpus/{name}") as out:
            out.write(b"no Parquet")
    yield "s3://bucket/corpus"
    gate.left, gate.stumbles = None, 0
    s3.open_s3.cache_clear()
    system.delete_dir("bucket/corpus")


def _system(gate: Gate) -> Any:
    return pafs.S3FileSystem(
        access_key=KEY,
        secret_key=SECRET,
        endpoint_override=gate.store,
        region="us-east-1",
        allow_bucket_creation=True,
    )


def _give_up_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes requests fail after one repetition; without it they take their time."""
    monkeypatch.setattr(s3, "_ATTEMPTS", 2)
    s3.open_s3.cache_clear()


def _plan(pattern: str) -> Plan:
    described, _ = inputs.describe(inputs.resolve([pattern]), CONFIG)
    return make_plan(described, CONFIG, MODEL)


def test_folders_and_globs_find_what_they_find_locally(corpus: str) -> None:
    """A folder, globs on any level and single objects lead to the same names, sorted, each once."""
    parts = [f"{corpus}/{folder}/part.parquet" for folder in ("lang=%2Fx", "lang=de", "lang=en/year=2020")]
    assert inputs.resolve([corpus]) == parts == inputs.resolve([corpus + "/", parts[1]])
    assert inputs.resolve([f"{corpus}/**/*.parquet"]) == parts
    assert inputs.resolve([f"{corpus}/lang=*/*.parquet"]) == parts[:2]
    assert inputs.resolve([f"{corpus}/_*/*"]) == [f"{corpus}/_temporary/a.parquet"]
    assert inputs.resolve([f"{corpus}/lang=d?/part.parquet", f"{corpus}/lang=[a-d]*/*"]) == [parts[1]]
    for wrong in (f"{corpus}/*.csv", "s3://bucket/none", "s3://no-bucket-here/*.parquet"):
        with pytest.raises(InputError, match="matches no file"):
            inputs.resolve([wrong])


def test_rows_columns_and_filters_come_from_the_store(corpus: str) -> None:
    """What is read from a store is what was written, with the columns of its folders."""
    plan = _plan(corpus)
    chunks = [
        chunk
        for number, file in enumerate(plan.inputs)
        for chunk in parquet.read_chunks(
            file, "doc_id", ("text", "lang"), [unit for unit in plan.units if unit.file == number]
        )
    ]
    assert [text for chunk in chunks for text in chunk.columns[0]] == [
        f"text {number}-{row} of {folder}".encode()
        for number, folder in ((2, "lang=%2Fx"), (0, "lang=de"), (1, "lang=en/year=2020"))
        for row in range(ROWS)
    ]
    assert {text for chunk in chunks for text in chunk.columns[1]} == {b"/x", b"de", b"en"}
    inputs.check_ids(plan)
    assert ColumnReader(plan).rows([2 * ROWS + 1, 0], ["doc_id", "year", "lang"]) == [
        {"doc_id": "1-1", "year": 2020, "lang": "en"},
        {"doc_id": "2-0", "year": None, "lang": "/x"},
    ]
    assert mask(plan, parse("year = 2020 or doc_id = '0-39'")).nonzero()[0].tolist() == [
        2 * ROWS - 1,
        *range(2 * ROWS, 3 * ROWS),
    ]


def test_secrets_of_a_uri_stay_in_memory(corpus: str, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys and endpoint may stand in the URI: it works without variables, and plans know no key."""
    for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    options = f"?endpoint_override=127.0.0.1:{gate.port}&scheme=http&region=us-east-1"
    quoted = SECRET.replace("+", "%2B").replace("/", "%2F")
    plan = _plan(f"{corpus.replace('://', f'://{KEY}:{quoted}@')}/*/part.parquet{options}")
    assert [file.path for file in plan.inputs] == [
        f"{corpus}/{folder}/part.parquet{options}" for folder in ("lang=%2Fx", "lang=de")
    ]
    assert KEY not in plan_text(plan)
    assert ColumnReader(plan).rows([0], ["doc_id"]) == [{"doc_id": "2-0"}]
    _give_up_soon(monkeypatch)
    gate.left = 0
    with pytest.raises(InputAwayError) as away:
        inputs.resolve([f"s3://{KEY}:{quoted}@bucket/other/*{options}"])
    assert KEY not in str(away.value)
    assert SECRET not in str(away.value)
    with pytest.raises(ConfigError, match="no option colour"):
        inputs.resolve(["s3://bucket/corpus?colour=green"])


def test_a_request_that_fails_for_a_moment_is_made_again(corpus: str, gate: Gate) -> None:
    """Answers of 503 now and then are nobody's business."""
    plan = _plan(corpus)
    gate.stumbles = 2
    (file, units) = plan.inputs[0], [unit for unit in plan.units if unit.file == 0]
    assert sum(len(chunk.ids) for chunk in parquet.read_chunks(file, "doc_id", ("text",), units)) == ROWS
    assert gate.stumbles == 0


def test_a_store_that_is_away_is_no_damage(corpus: str, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where bad files are left out, a store that does not answer ends the run: its files are not bad."""
    plan = _plan(corpus)
    paths = [file.path for file in plan.inputs]
    _give_up_soon(monkeypatch)
    gate.left = 0
    with pytest.raises(InputAwayError, match=r"the store of .* does not answer .* run the same command"):
        inputs.describe(paths[:1], CONFIG, OnError.SKIP)
    gate.left = 3  # looks, opens, reads no more
    units = [unit for unit in plan.units if unit.file == 0]
    with pytest.raises(InputAwayError):
        list(parquet.read_chunks(plan.inputs[0], "doc_id", ("text",), units, OnError.SKIP))


def test_the_whole_road_from_a_store_that_goes_away_and_comes_back(
    corpus: str, gate: Gate, tiny_bundle: Path, start_worker: StartWorker, indexer: Any, tmp_path: Path
) -> None:
    """A run from s3:// whose store is gone halfway ends in one line, and the same command completes it.

    The index is byte for byte that of an undisturbed run, and no file of it holds a key.
    """
    address = start_worker(tiny_bundle, "--processes", "1").address
    run = ["run", "--input", corpus, "--text-columns", "text", "--unit-rows", "16", "--worker", address]
    before = len(gate.requests)
    indexer.run(*run, "--output", tmp_path / "whole")
    asked = len(gate.requests) - before
    gate.left = asked - 4
    failed = indexer.run(*run, "--output", tmp_path / "index", code=1)
    assert "does not answer" in failed.stderr.splitlines()[-1]
    gate.left = None
    done = indexer.run(*run, "--output", tmp_path / "index")
    assert "documents" in done.stdout
    whole = indexer.tree(tmp_path / "whole")
    assert indexer.tree(tmp_path / "index") == whole
    assert not any(SECRET.encode() in content or KEY.encode() in content for content in whole.values())
    shutil.rmtree(tmp_path / "index")
