"""Labelled sentences, read from Parquet and checked: words, and one IOB2 tag for each.

A set is a folder with `train.parquet`, `validation.parquet` and `test.parquet`, each with the columns
`tokens` and `ner_tags`, both lists of strings.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from build_models.errors import EvaluationError
from build_models.quality.tables import Column, read_table

OUTSIDE = "O"
# Fewer sentences say nothing of an F1; arbitrary.
MIN_SENTENCES = 20
_Cells = list[str | None]  # of one row, as Parquet holds them
_COLUMNS = {"tokens": Column.WORDS, "ner_tags": Column.WORDS}


class Split(StrEnum):
    """A part of a set, by the name of its file."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


@dataclass(frozen=True)
class Sentence:
    """One sentence; as many tags as words.

    Attributes:
        words: The words, as they were cut by whoever labelled them.
        tags: `O`, `B-TYPE` or `I-TYPE` for each word, valid IOB2.
    """

    words: tuple[str, ...]
    tags: tuple[str, ...]


def split_file(folder: Path, split: Split) -> Path:
    """Returns where a split lies."""
    return folder / f"{split}.parquet"


def read_split(folder: Path, split: Split) -> list[Sentence]:
    """Returns the sentences of a split; rows without words are left out.

    Raises:
        EvaluationError: The file or a column is missing, a row's lists differ in length, a tag is no IOB2,
            no entity is there, or there are too few sentences.
    """
    path = split_file(folder, split)
    columns = read_table(path, _COLUMNS, files="train.parquet, validation.parquet and test.parquet")
    rows = zip(columns["tokens"], columns["ner_tags"], strict=True)
    sentences = [_sentence(path, row, words, tags) for row, (words, tags) in enumerate(rows)]
    sentences = [sentence for sentence in sentences if sentence.words]
    if len(sentences) < MIN_SENTENCES:
        raise EvaluationError(
            f"{path} has {len(sentences)} sentences with words, wanted {MIN_SENTENCES} at least; "
            "give a larger set"
        )
    if not any(tag != OUTSIDE for sentence in sentences for tag in sentence.tags):
        raise EvaluationError(
            f"{path} has no entity: every tag is {OUTSIDE}; give a set with labelled entities"
        )
    return sentences


def entity_types(sentences: Sequence[Sentence]) -> tuple[str, ...]:
    """Returns the types of entity in sentences, sorted."""
    tags = {tag for sentence in sentences for tag in sentence.tags}
    return tuple(sorted({tag[2:] for tag in tags if tag != OUTSIDE}))


def entity_types_of(labels: Sequence[str]) -> tuple[str, ...]:
    """Returns the types of entity that labels name, sorted."""
    return tuple(sorted({label[2:] for label in labels if label[1:2] == "-"}))


def iob2_labels(types: Sequence[str]) -> tuple[str, ...]:
    """Returns the labels of a tagger for some types of entity: outside first, then two for each type."""
    return (OUTSIDE, *(f"{prefix}-{name}" for name in types for prefix in "BI"))


def check_known(path: Path, sentences: Sequence[Sentence], labels: Sequence[str]) -> None:
    """Compares the tags of sentences with the labels of a tagger.

    Raises:
        EvaluationError: A tag is none of the labels.
    """
    unknown = sorted({tag for sentence in sentences for tag in sentence.tags} - set(labels))
    if unknown:
        raise EvaluationError(
            f"{path} has tags that the model cannot give: {', '.join(unknown)}; "
            f"its labels are {', '.join(labels)}: give the set that it was trained for"
        )


def _sentence(path: Path, row: int, words: _Cells, tags: _Cells) -> Sentence:
    if len(words) != len(tags):
        raise EvaluationError(
            f"{path}: row {row} has {len(words)} tokens and {len(tags)} ner_tags, wanted as many of each"
        )
    if None in words or None in tags:
        raise EvaluationError(f"{path}: row {row} has a null among its tokens or ner_tags, wanted strings")
    checked = tuple(str(tag) for tag in tags)
    for before, tag in zip((OUTSIDE, *checked), checked, strict=False):
        if not is_iob2(before, tag):
            raise EvaluationError(
                f"{path}: row {row} has the tag {tag!r} after {before!r}, wanted IOB2: "
                f"{OUTSIDE}, B-TYPE, or I-TYPE after one of the same type"
            )
    return Sentence(tuple(str(word) for word in words), checked)


def is_iob2(before: str, tag: str) -> bool:
    """Returns whether a tag may follow another one."""
    if tag == OUTSIDE:
        return True
    if len(tag) < 3 or tag[:2] not in ("B-", "I-"):
        return False
    return tag[0] == "B" or (before != OUTSIDE and before[2:] == tag[2:])
