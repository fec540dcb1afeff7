"""Damage to any file of an index: `verify` finds it, `repair` mends what can be mended."""

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from build_models.quality.docstrings import Docstring
from indexer.errors import StoreError
from indexer.index import generations
from indexer.operations.repair import repair_index
from indexer.operations.verify import verify_index
from indexer.store.deletions import deletion_pieces, list_deletions
from indexer.store.layout import Layout
from tests.integration.indexer.conftest import Indexer
from tests.integration.indexer.updates import Archive, answers, copied, failures, quiet, vectors_of

Damage = Callable[[Path], None]
# What nothing else can prove: `repair` refuses.
LOST = ("plan.json", "additions/", "deletions/")


@dataclass(frozen=True)
class Sound:
    """Two indexes that nothing is wrong with: one of a single run, one that was updated twice.

    Attributes:
        archive: The inputs; `plain` was made of the first ones alone, which are `early`'s.
        early: An archive whose inputs stayed as they were.
        plain: Made by one run.
        updated: Made by runs and a delete.
        queries: What to search for.
    """

    archive: Archive
    early: Archive
    plain: Path
    updated: Path
    queries: NDArray[np.float32]


@pytest.fixture(scope="module")
def sound(
    tiny_bundle: Path,
    some_docstrings: list[Docstring],
    start_shared_worker: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Sound:
    """Made once; see `Archive.first` and `second`. Lists and codes are learned: a template is kept."""
    address = start_shared_worker(tiny_bundle, "--processes", "1").address
    folder = tmp_path_factory.mktemp("sound")
    texts = [docstring.text for docstring in some_docstrings[:150]]
    early = Archive(folder / "early", address, Indexer(), texts, "--index-key", "IVF1,SQ8")
    early.first(folder / "plain")
    # Codes that are learned anew would give other scores.
    archive = Archive(folder / "late", address, Indexer(), texts, "--index-key", "IVF1,Flat")
    archive.first(folder / "updated")
    archive.second(folder / "updated")
    return Sound(archive, early, folder / "plain", folder / "updated", vectors_of(folder / "plain"))


def _flip(share: float) -> Damage:
    def damage(file: Path) -> None:
        data = bytearray(file.read_bytes())
        data[int(share * (len(data) - 1))] ^= 1
        file.write_bytes(data)

    return damage


def _cut(stop: int) -> Damage:
    def damage(file: Path) -> None:
        file.write_bytes(file.read_bytes()[:stop])

    return damage


DAMAGE: dict[str, Damage] = {
    "deleted": Path.unlink,
    "empty": _cut(0),
    "shorter": _cut(-9),
    "flip at the start": _flip(0.0),
    "flip in the middle": _flip(0.5),
    "flip at the end": _flip(0.93),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_verify_finds_damage_to_any_file(sound: Sound, damage: str, tmp_path: Path) -> None:
    """Every file of an updated index, one after the other, deleted, cut or with a flipped bit."""
    assert not failures(sound.updated)
    index = copied(sound.updated, damage)
    deleted = _deleted(index)
    files = sorted(_files(index))
    assert {name.split("/")[0] for name in files} == {
        "CURRENT", "additions", "deletions", "faiss", "plan.json", "rejects", "units",
    }  # fmt: skip
    for name in files:
        before = (index / name).read_bytes()
        DAMAGE[damage](index / name)
        harmless = name.startswith("deletions/") and (index / name).exists() and _is(index, deleted)
        assert harmless or not _named(sound, name) or failures(index), name
        (index / name).write_bytes(before)


def _files(index: Path) -> set[str]:
    return set(Indexer.tree(index))


def _named(sound: Sound, name: str) -> bool:
    """Returns whether the index in use needs a file: generations that were left behind may rot."""
    layout = Layout(sound.updated)
    generation = generations.current(layout)
    assert generation is not None
    needed = generations.files_in_use(layout, generation)
    return not name.startswith("faiss/") or sound.updated / name in needed


def _deleted(index: Path) -> list[list[str]]:
    layout = Layout(index)
    return [ids for deletion in list_deletions(layout) for ids in deletion_pieces(layout, deletion)]


def _is(index: Path, deleted: list[list[str]]) -> bool:
    """Returns whether deletions say what they said: bits that name the writer of a file change nothing."""
    try:
        return _deleted(index) == deleted
    except StoreError:
        return False


@pytest.mark.parametrize("damage", ["deleted", "flip in the middle"])
def test_repair_gives_an_index_of_one_run_its_bytes(sound: Sound, damage: str) -> None:
    """Each kind of file in turn: repair, with the same `run` where units were lost, restores each byte."""
    expected = Indexer.tree(sound.plain)
    index = copied(sound.plain, f"plain {damage}")
    for name in _each_kind(expected):
        DAMAGE[damage](index / name)
        if name.startswith(LOST):
            _refused(index)
            (index / name).write_bytes(expected[name])
            continue
        # Nothing but meta.json tells the key.
        done = repair_index(index, quiet(), "IVF1,SQ8" if name.endswith("meta.json") else "")
        if done.missing:
            sound.early.run(index)
        assert Indexer.tree(index) == expected, name


def test_repair_gives_an_updated_index_its_answers(sound: Sound) -> None:
    """Each kind of file in turn: afterwards `verify` finds nothing, and searches find what they found."""
    expected = answers(sound.updated, sound.queries)
    index = copied(sound.updated, "updated and mended")
    for name in _each_kind(_files(index)):
        if not (index / name).exists():
            continue  # a repair before removed what nothing named
        before = Indexer.tree(index)
        _flip(0.5)(index / name)
        if name.startswith(LOST) and failures(index):
            _refused(index)
            (index / name).write_bytes(before[name])
            continue
        done = repair_index(index, quiet())
        if done.missing:
            sound.archive.run(index)
        assert not failures(index), name
        assert answers(index, sound.queries) == expected, name


def _each_kind(names: Iterable[str]) -> Iterator[str]:
    """Yields the first and the last file of each kind: those that differ in their numbers alone."""
    kinds: dict[str, list[str]] = {}
    for name in sorted(names):
        kinds.setdefault(re.sub(r"\d+", "N", name), []).append(name)
    for files in kinds.values():
        yield from dict.fromkeys([files[0], files[-1]])


def _refused(index: Path) -> None:
    """What cannot be mended is said in one line, and nothing is touched."""
    before = Indexer.tree(index)
    with pytest.raises(StoreError, match=r"copy|build the index again|build it again|make one with"):
        repair_index(index, quiet())
    assert Indexer.tree(index) == before


def test_the_commands_say_what_was_mended(sound: Sound, indexer: Any) -> None:
    """A damaged unit and a damaged FAISS index at once: lines tell what happened and what to run next."""
    index = copied(sound.plain, "said")
    for name in ("units/000001.parquet", "faiss/000001/000000.faiss"):
        _flip(0.5)(index / name)
    (index / "units" / "000002.parquet.tmp").write_bytes(b"half")
    (index / "notes.txt").write_text("mine")
    assert "FAIL checksums" in indexer.run("verify", "--index", index, code=1).stdout
    done = indexer.run("repair", "--index", index)
    assert "1 were damaged, 1 are to be made" in done.stdout
    assert "run the same 'run' command" in done.stdout
    assert "damaged: " in done.stderr
    sound.early.run(index)
    (index / "notes.txt").unlink()
    assert Indexer.tree(index) == Indexer.tree(sound.plain)
    assert "faiss      whole" in indexer.run("repair", "--index", index).stdout


def test_a_tuned_setting_outlives_a_repair(sound: Sound) -> None:
    """The key and the search setting are taken over from `meta.json` where that is whole."""
    index = copied(sound.plain, "tuned")
    layout = Layout(index)
    generation = generations.current(layout)
    assert generation is not None
    meta = replace(generation.meta, search={"nprobe": 17})
    layout.meta(generation.name).write_text(meta.to_json())
    expected = Indexer.tree(index)
    _flip(0.5)(index / "faiss" / "000001" / "000000.faiss")
    assert repair_index(index, quiet()).generation == "built again"
    assert Indexer.tree(index) == expected


def test_a_changed_input_is_told_and_is_no_damage(sound: Sound, indexer: Any, tmp_path: Path) -> None:
    """An input that changed since, or is gone, is not compared; a text that differs in place is found."""
    archive = Archive(tmp_path, sound.early.address, indexer, sound.early.texts)
    archive.write("a", archive.rows(0, 20))
    archive.run(tmp_path / "index")
    archive.write("a", archive.rows(0, 21))
    said = indexer.run("verify", "--index", tmp_path / "index").stdout
    assert "1 inputs have changed since and were not compared" in said
    (archive.inputs / "a.parquet").unlink()
    assert "1 inputs are gone" in indexer.run("verify", "--index", tmp_path / "index").stdout
    _as_planned(archive, tmp_path / "index")
    wrong = [finding for finding in verify_index(tmp_path / "index") if not finding.ok]
    assert [finding.check for finding in wrong] == ["inputs"]
    assert "row 5 ('d5') holds another text" in wrong[0].detail


def _as_planned(archive: Archive, index: Path) -> None:
    """Writes an input that looks as it was planned, but for one text."""
    planned = json.loads((index / "plan.json").read_text())["inputs"][0]
    rows = archive.rows(0, 20)
    rows["d5"] = rows["d5"].swapcase()
    archive.write("a", rows)
    path = archive.inputs / "a.parquet"
    if path.stat().st_size != planned["size"]:
        pytest.skip("the other text is compressed to another size")
    os.utime(path, ns=(planned["mtime_ns"], planned["mtime_ns"]))
