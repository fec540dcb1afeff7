"""A set that a tiny tagger really learns, and the tagger and the bundle made of it."""

import random
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from build_models.ner.config import FinetuneConfig, NerBuildConfig
from build_models.recipes import parse_recipes

# A word decides its tag, so that even a tiny model can learn them all.
_WORDS = ("the", "value", "of", "a", "string", "is", "returned", "when", "file", "file name", "error")
_TAGS = {"file": "B-Thing", "name": "I-Thing", "error": "B-Fault"}
_SIZES = {"train": 400, "validation": 60, "test": 120}


class WriteSet(Protocol):
    """Writes a split; see `write_split`."""

    def __call__(self, folder: Path, split: str, words: list[Any], tags: list[Any]) -> None:
        """Writes `words` and `tags`, one list for each sentence."""
        ...


@pytest.fixture(scope="session")
def write_split() -> WriteSet:
    """Writes one split of a set."""

    def write(folder: Path, split: str, words: list[Any], tags: list[Any]) -> None:
        folder.mkdir(exist_ok=True, parents=True)
        kind = pa.list_(pa.string())
        table = pa.table({"tokens": pa.array(words, kind), "ner_tags": pa.array(tags, kind)})
        pq.write_table(table, folder / f"{split}.parquet")

    return write


@pytest.fixture(scope="session")
def ner_data(write_split: WriteSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sentences of 1 to some 20 words with files (two words at times) and errors in them."""
    folder = tmp_path_factory.mktemp("files", numbered=False)
    chance = random.Random(5)
    for split, size in _SIZES.items():
        drawn = [chance.choices(_WORDS, k=chance.randint(1, 20)) for _ in range(size)]
        words = [[word for words in sentence for word in words.split()] for sentence in drawn]
        write_split(folder, split, words, [[_TAGS.get(word, "O") for word in row] for row in words])
    return folder


@pytest.fixture(scope="session")
def finetune_config(tiny_model_dir: Path, ner_data: Path) -> dict[str, Any]:
    """Settings with which the tiny model learns the set in a few seconds."""
    return {
        "model": str(tiny_model_dir),
        "data": ner_data,
        "epochs": 3,
        "batch": 16,
        "learning_rate": 4e-3,
    }


@pytest.fixture(scope="session")
def tagger_dir(finetune_config: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained tagger as `finetune` wrote it."""
    # Here, because torch takes seconds to import and most tests do without it.
    from build_models.ner.finetune import finetune

    out = tmp_path_factory.mktemp("taggers") / "tiny-tagger"
    finetune(FinetuneConfig(out=out, **finetune_config))
    return out


@pytest.fixture(scope="session")
def tagger_bundle(tagger_dir: Path, ner_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The INT8 bundle of `tagger_dir`."""
    from build_models.ner.pipeline import build

    out = tmp_path_factory.mktemp("bundles") / "tiny-tagger-int8"
    config = NerBuildConfig(
        model=str(tagger_dir),
        out=out,
        recipes=parse_recipes("int8-dynamic"),
        eval_data=(ner_data,),
        max_f1_loss=0.05,  # 32 dimensions round worse than hundreds
    )
    build(config)
    return out
