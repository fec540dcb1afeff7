"""Names of inputs: files, folders, globs and URIs; the columns that folders spell; what may never be told."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.config import OnError, PlanConfig
from indexer.errors import ConfigError, InputError
from indexer.inputs import files as inputs
from indexer.inputs import parquet
from indexer.inputs.address import read_address
from indexer.inputs.columns import ColumnReader
from indexer.inputs.filters import mask, parse
from indexer.inputs.partitions import are_numbers, partitions
from indexer.plan import Model, Plan, make_plan

WriteParquet = Callable[..., Path]
CONFIG = PlanConfig(text_columns=("text",))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder of files that are data, and of names that mark what is not."""
    for name in (
        *(
            "b.parquet",
            "a.parquet",
            "lang=en/year=2020/a.parquet",
            "lang=en/_day=1/a.parquet",
            "x.parquet/0.parquet",
        ),
        *(
            "_temporary/a.parquet",
            ".hidden/a.parquet",
            "_delta_log/1.parquet",
            ".a.parquet",
            "_SUCCESS",
            "a.csv",
        ),
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def _names(tree: Path, *patterns: str) -> list[str]:
    found = inputs.resolve([str(tree / pattern) for pattern in patterns])
    return [Path(path).relative_to(tree).as_posix() for path in found]


def test_a_folder_is_all_its_data(tree: Path) -> None:
    """Every *.parquet below, however deep; what begins with a dot or an underscore is no data."""
    wanted = ["a.parquet", "b.parquet", "lang=en/_day=1/a.parquet", "lang=en/year=2020/a.parquet"]
    wanted += ["x.parquet/0.parquet"]
    assert _names(tree, "") == wanted
    assert _names(tree, "", "a.parquet", "*.parquet", "**/*.parquet") == wanted
    assert _names(tree, "x.parquet") == ["x.parquet/0.parquet"]


def test_globs_match_as_in_a_shell(tree: Path) -> None:
    """Wildcards on any level; hidden names only by a pattern that begins so; folders named *.parquet too."""
    assert _names(tree, "*.parquet") == ["a.parquet", "b.parquet", "x.parquet/0.parquet"]
    assert _names(tree, "[!b].parquet") == ["a.parquet", "x.parquet/0.parquet"]
    assert _names(tree, "lang=*/y*/?.parquet") == ["lang=en/year=2020/a.parquet"]
    assert _names(tree, "_*/*.parquet") == ["_delta_log/1.parquet", "_temporary/a.parquet"]
    assert _names(tree, "**/year=2020/*") == ["lang=en/year=2020/a.parquet"]
    (tree / "[1].parquet").touch()
    assert _names(tree, "[1].parquet") == ["[1].parquet"]
    for wrong in ("*.txt", "none/*.parquet", "none.parquet", "none"):
        with pytest.raises(InputError, match="matches no file"):
            _names(tree, wrong)
    (tree / "bare").mkdir()
    with pytest.raises(InputError, match=r"is a folder that holds no file \*\.parquet"):
        _names(tree, "bare")


def test_names_are_the_same_from_everywhere(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative paths, links to folders and file:// lead to one name; a link to a file keeps its own."""
    monkeypatch.chdir(tree)
    whole = [str(tree / "a.parquet")]
    (tree / "link").symlink_to(tree, target_is_directory=True)
    for spelling in ("a.parquet", "./x.parquet/../a.parquet", "link/a.parquet", f"file://{tree}/a.parquet"):
        assert inputs.resolve([spelling]) == whole, spelling
    (tree / "lang=en" / "blob.parquet").symlink_to(tree / "b.parquet")
    assert inputs.resolve(["lang=en/blob.parquet"]) == [str(tree / "lang=en" / "blob.parquet")]
    assert len(inputs.resolve(["lang=en/blob.parquet", "b.parquet"])) == 1


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_is_an_address(name: str) -> None:
    """Whatever an operator writes is taken apart without failing."""
    address = read_address(name)
    assert read_address(address.public).public == address.public


@pytest.mark.parametrize(
    ("name", "public"),
    [
        ("s3://KEY:SECRET@bucket/b/x.parquet?region=e&scheme=http", "s3://bucket/b/x.parquet?region=e&scheme=http"),
        ("s3://bucket/x.parquet?session_token=SECRET&region=eu-1", "s3://bucket/x.parquet?region=eu-1"),
        ("s3://KEY@bucket/part-?.parquet", "s3://bucket/part-?.parquet"),
        ("https://host/x.parquet?id=7&X-Amz-Signature=SECRET&sig=SECRET", "https://host/x.parquet?id=7"),
        ("https://user:SECRET@host/x.parquet", "https://host/x.parquet"),
        ("abfs://container@account/x.parquet?anything=SECRET", "abfs://container@account/x.parquet"),
        ("hf://datasets/one/two@main/x.parquet", "hf://datasets/one/two@main/x.parquet"),
        ("gs://bucket/lang=a%2Fb/x.parquet", "gs://bucket/lang=a%2Fb/x.parquet"),
        ("/data/s3:/x.parquet", "/data/s3:/x.parquet"),
        ("file:///data/a%20b.parquet", "/data/a b.parquet"),
    ],
)  # fmt: skip
def test_secrets_are_no_part_of_a_name(name: str, public: str) -> None:
    """Keys, passwords, tokens and options that nobody knows are left out of what plans and messages say."""
    address = read_address(name)
    assert address.public == public
    assert "SECRET" not in repr(address)
    assert ("SECRET" in name) == ("SECRET" in address.private)


def test_folders_spell_columns() -> None:
    """Percent signs are decoded, Hive's mark for null is null, numbers have one spelling."""
    assert partitions("/data/lang=en/year=2020/a.parquet") == {"lang": "en", "year": "2020"}
    assert partitions("s3://bucket/a%20b=c%2Fd/x=__HIVE_DEFAULT_PARTITION__/=1/y=/z.parquet?region=e") == {
        "a b": "c/d",
        "x": None,
        "y": "",
    }
    assert partitions("/k=1.parquet") == {}
    assert are_numbers(["1", None, "-20", "0"])
    for values in (["1", "x"], ["01"], [None], ["1.0"], ["-0"], ["٣"], ["9" * 19], [""]):
        assert not are_numbers(values), values


def _planned(paths: list[str], config: PlanConfig = CONFIG) -> Plan:
    described, _ = inputs.describe(paths, config)
    return make_plan(described, config, Model("f" * 64, "four", 4, normalized=False))


def test_columns_of_folders_can_be_read(write_parquet: WriteParquet, tmp_path: Path) -> None:
    """As text and id, by reference and in filters, as numbers where all are; a file's own come first."""
    for folder, ids in (
        ("year=2020/kind=%61", ["x", "y"]),
        ("year=2021/kind=__HIVE_DEFAULT_PARTITION__", ["z"]),
    ):
        (tmp_path / folder).mkdir(parents=True)
        write_parquet(f"{folder}/part.parquet", doc_id=ids, text=["t"] * len(ids), row_group=1)
    config = PlanConfig(text_columns=("kind", "text"), unit_rows=3)
    plan = _planned(inputs.resolve([str(tmp_path)]), config)
    chunks = [
        chunk
        for unit in plan.units
        for chunk in parquet.read_chunks(plan.inputs[unit.file], "year", ("kind", "text"), [unit])
    ]
    assert [one for chunk in chunks for one in chunk.ids] == [b"2020", b"2020", b"2021"]
    assert [one for chunk in chunks for one in chunk.columns[0]] == [b"a", b"a", None]
    assert ColumnReader(plan).rows([2, 0], ["year", "kind", "doc_id"]) == [
        {"year": 2021, "kind": None, "doc_id": "z"},
        {"year": 2020, "kind": "a", "doc_id": "x"},
    ]
    assert mask(plan, parse("year > 2020 or kind = 'a' and doc_id = 'y'")).tolist() == [False, True, True]
    own = write_parquet("year=2020/kind=%61/own.parquet", doc_id=["q"], text=["t"], kind=["own"])
    assert ColumnReader(_planned([str(own)])).rows([0], ["kind"]) == [{"kind": "own"}]


@pytest.fixture
def memory() -> Iterator[str]:
    """A folder of fsspec's file system in memory, with two files."""
    system = fsspec.filesystem("memory")
    for name, ids in (("a", ["x", "y"]), ("lang=en/b", ["z"])):
        with system.open(f"/corpus/{name}.parquet", "wb") as out:
            pq.write_table(pa.table({"doc_id": ids, "text": ids}), out)
    yield "memory://corpus"
    system.rm("/corpus", recursive=True)


def test_file_systems_of_fsspec_serve_as_well(memory: str) -> None:
    """What Arrow does not know is opened by fsspec: folders, globs, rows, columns, filters, changes."""
    names = [f"{memory}/a.parquet", f"{memory}/lang=en/b.parquet"]
    assert inputs.resolve([memory]) == names == inputs.resolve([f"{memory}/**/*.parquet"])
    plan = _planned(names)
    inputs.check_ids(plan)
    assert ColumnReader(plan).rows([2], ["doc_id", "lang"]) == [{"doc_id": "z", "lang": "en"}]
    assert mask(plan, parse("lang = 'en'")).tolist() == [False, False, True]
    with pytest.raises(InputError, match=r"memory://corpus/none\.parquet is not there"):
        parquet.describe_input(f"{memory}/none.parquet")
    with fsspec.open("memory://corpus/a.parquet", "wb") as out:
        out.write(b"no Parquet")
    with pytest.raises(InputError, match=r"memory://corpus/a\.parquet is no readable Parquet file"):
        inputs.describe(names, CONFIG)
    described, skipped = inputs.describe(names, CONFIG, OnError.SKIP)
    assert [file.path for file in described] == names[1:]
    assert [file.path for file in skipped] == names[:1]


def test_an_unknown_store_is_a_wrong_setting() -> None:
    """A scheme that neither Arrow nor fsspec knows is ConfigError; without fsspec it says what to install."""
    with pytest.raises(ConfigError, match="nowhere"):
        inputs.resolve(["nowhere://bucket/x.parquet"])
    code = (
        "import sys; sys.modules['fsspec'] = None\n"
        "from indexer.inputs.files import resolve\n"
        "try: resolve(['memory://x/y.parquet'])\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("ConfigError cannot open the file system of memory://x/y.parquet")
    assert "pip install 'embedpool[fsspec]'" in done.stdout
