"""What pages ask for with `<!-- setup: … -->`: small stand-ins for what a reader has already."""

import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from build_models.quality.docstrings import Docstring
from tests.documentation.addresses import free_port
from tests.documentation.shell import ROOT
from tests.integration.certificates import Authority
from tests.integration.conftest import WorkerServer

DOCUMENTS = 120  # in two files; a tiny model embeds them at once
_SECONDS = 120.0
_WORDS = ("the", "value", "of", "a", "string", "is", "returned", "when", "file", "file name", "error")
_TAGS = {"file": "B-Thing", "name": "I-Thing", "error": "B-Fault"}

Prepare = Callable[[Path, str], None]


@pytest.fixture(scope="session")
def pool_port(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a pool with the tiny model, which all pages share that need one to be there."""
    port = free_port()
    log = tmp_path_factory.mktemp("pool") / "stderr.log"
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "worker", "serve", "--bundle", str(tiny_bundle)),
                *("--listen", f"127.0.0.1:{port}", "--stop-on-stdin-close"),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    server = WorkerServer(process, log)
    try:
        server.wait_until_ready()
        yield port
    finally:
        server.end()


@pytest.fixture(scope="session")
def prepare(
    tiny_bundle: Path,
    tiny_fp32_bundle: Path,
    tiny_model_dir: Path,
    eval_data: Path,
    some_docstrings: list[Docstring],
    pool_port: int,
) -> dict[str, Prepare]:
    """What a page may ask for, by name: a function of the page's folder and of the value in the comment."""
    return {
        "bundle": lambda folder, name: _copy(tiny_bundle, folder / (name or "bundle")),
        "second": lambda folder, name: _copy(tiny_fp32_bundle, folder / (name or "bundle-2")),
        "model": lambda folder, name: _copy(tiny_model_dir, folder / (name or "my-model")),
        "judged": lambda folder, name: _copy(eval_data, folder / (name or "judged")),
        "labelled": lambda folder, name: _write_labelled(folder / (name or "labelled")),
        "docs": lambda folder, name: _write_documents(folder / (name or "docs"), some_docstrings),
        "index": lambda folder, name: _index(folder, name or "index", pool_port),
        "tls": lambda folder, _: _write_certificates(folder),
        "texts": lambda folder, name: _write_texts(folder / (name or "texts.txt"), some_docstrings),
        "examples": lambda folder, _: _copy(ROOT / "examples", folder / "examples"),
        "pool": lambda folder, _: None,  # see `pool_port`
    }


def _copy(source: Path, target: Path) -> None:
    shutil.copytree(source, target)


def _write_documents(folder: Path, docstrings: list[Docstring]) -> None:
    folder.mkdir()
    chosen = docstrings[:DOCUMENTS]
    for letter, part in (("a", chosen[::2]), ("b", chosen[1::2])):
        table = {
            "doc_id": [f"{letter}{index}" for index in range(len(part))],
            "title": [docstring.signature for docstring in part],
            "text": [docstring.body for docstring in part],
            "url": [f"https://example.org/{docstring.qualified_name}" for docstring in part],
            "lang": ["en" if index % 4 else "de" for index in range(len(part))],
            "year": [2018 + index % 8 for index in range(len(part))],
        }
        pq.write_table(pa.table(table), folder / f"{letter}.parquet")


def _write_texts(path: Path, docstrings: list[Docstring]) -> None:
    path.write_text(
        "".join(f"{docstring.summary}\n" for docstring in docstrings[:DOCUMENTS]), encoding="utf-8"
    )


def _write_labelled(folder: Path) -> None:
    """Writes sentences in which a word decides its tag, so that even a tiny model learns them."""
    folder.mkdir()
    chance = random.Random(5)
    for split, size in {"train": 400, "validation": 60, "test": 120}.items():
        drawn = [chance.choices(_WORDS, k=chance.randint(1, 20)) for _ in range(size)]
        words = [[word for words in sentence for word in words.split()] for sentence in drawn]
        tags = [[_TAGS.get(word, "O") for word in row] for row in words]
        kind = pa.list_(pa.string())
        table = pa.table({"tokens": pa.array(words, kind), "ner_tags": pa.array(tags, kind)})
        pq.write_table(table, folder / f"{split}.parquet")


def _write_certificates(folder: Path) -> None:
    authority = Authority(folder / "authority")
    pair = authority.sign("server")
    shutil.copy(authority.pair.cert, folder / "ca.crt")
    shutil.copy(pair.cert, folder / "tls.crt")
    shutil.copy(pair.key, folder / "tls.key")
    (folder / "tokens").write_text("alice 0123456789abcdef0123456789abcdef\n")
    (folder / "token").write_text("0123456789abcdef0123456789abcdef\n")
    (folder / "admin-tokens").write_text("operator fedcba9876543210fedcba9876543210\n")
    (folder / "admin-token").write_text("fedcba9876543210fedcba9876543210\n")


def _index(folder: Path, name: str, port: int) -> None:
    arguments = ("--input", "docs/*.parquet", "--output", name, "--worker", f"127.0.0.1:{port}")
    done = subprocess.run(
        [sys.executable, "-m", "indexer", "run", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
