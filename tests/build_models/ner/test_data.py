"""Labelled sentences: what is read, and what is refused in one line."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from build_models.errors import EvaluationError
from build_models.ner.data import Split, entity_types, entity_types_of, iob2_labels, read_split

_GOOD = ["B-A", "I-A", "O"]


def _write(folder: Path, **columns: Any) -> None:
    pq.write_table(pa.table(columns), folder / "test.parquet")


def test_sentences_are_read(tmp_path: Path) -> None:
    """Rows come back in order with words and tags; rows without words are left out."""
    _write(tmp_path, tokens=[["a", "b", "c"]] * 20 + [[]], ner_tags=[_GOOD] * 20 + [[]])
    sentences = read_split(tmp_path, Split.TEST)
    assert len(sentences) == 20
    assert sentences[0].words == ("a", "b", "c")
    assert entity_types(sentences) == ("A",)
    labels = iob2_labels(("A", "B"))
    assert labels == ("O", "B-A", "I-A", "B-B", "I-B")
    assert entity_types_of(labels) == ("A", "B")


def test_real_sets_are_read(shared_data: Path) -> None:
    """The public sets are valid IOB2 throughout, with the entities that their source counts."""
    sentences = read_split(shared_data / "bc5cdr", Split.TEST)
    begun = [tag for sentence in sentences for tag in sentence.tags if tag.startswith("B-")]
    assert len(sentences) == 4797
    assert (begun.count("B-Chemical"), begun.count("B-Disease")) == (5385, 4424)
    assert len(entity_types(read_split(shared_data / "wnut17", Split.TEST))) == 6


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"tokens": [["a"]]}, "has no column ner_tags; it has tokens"),
        ({"tokens": ["a"], "ner_tags": [["O"]]}, "column tokens .* is string, wanted lists of text"),
        ({"tokens": [["a", "b"]], "ner_tags": [["O"]]}, "row 0 has 2 tokens and 1 ner_tags"),
        ({"tokens": [["a", None]], "ner_tags": [["O", "O"]]}, "row 0 has a null among"),
        ({"tokens": [["a"], None], "ner_tags": [["O"], ["O"]]}, "is null in 1 of 2 rows"),
        ({"tokens": [["a"]], "ner_tags": [["I-A"]]}, "row 0 has the tag 'I-A' after 'O', wanted IOB2"),
        ({"tokens": [["a"]], "ner_tags": [["Chemical"]]}, "has the tag 'Chemical'"),
        ({"tokens": [["a"]] * 19, "ner_tags": [["B-A"]] * 19}, "has 19 sentences with words, wanted 20"),
        ({"tokens": [["a"]] * 30, "ner_tags": [["O"]] * 30}, "has no entity: every tag is O"),
    ],
)
def test_bad_sets_are_named(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    """Each fault is told with file, place, and what was wanted."""
    _write(tmp_path, **columns)
    with pytest.raises(EvaluationError, match=message) as caught:
        read_split(tmp_path, Split.TEST)
    assert str(tmp_path / "test.parquet") in str(caught.value)


def test_missing_and_damaged_files_are_named(tmp_path: Path) -> None:
    """The message says which files a set of sentences has."""
    with pytest.raises(EvaluationError, match=r"missing; evaluation data is train\.parquet"):
        read_split(tmp_path, Split.TEST)
    (tmp_path / "test.parquet").write_bytes(b"PAR1 no footer")
    with pytest.raises(EvaluationError, match="no Parquet file, or damaged"):
        read_split(tmp_path, Split.TEST)
