"""`compare` on taggers, and on taggers and embedding models in one call."""

from pathlib import Path

import pytest
from seqeval.metrics import f1_score
from seqeval.scheme import IOB2

from build_models.comparison.config import CompareConfig
from build_models.comparison.result import compare
from build_models.comparison.table import Comparison
from build_models.comparison.timing import Precision
from build_models.errors import BuildError, EvaluationError
from build_models.ner.data import Split, read_split
from build_models.ner.tagger import Tagger
from worker.bundle import Task


@pytest.fixture(scope="module")
def found(
    tagger_bundle: Path,
    tagger_dir: Path,
    ner_data: Path,
    tiny_bundle: Path,
    tiny_model_dir: Path,
    eval_data: Path,
) -> Comparison:
    """Both tasks in one call, taggers first."""
    return compare(
        CompareConfig(
            bundles=(tagger_bundle, tiny_bundle),
            models=(str(tagger_dir), str(tiny_model_dir)),
            eval_data=(ner_data, eval_data),
            queries=8,
            tokens=16,
        )
    )


def test_each_task_has_its_table(found: Comparison) -> None:
    """Models and sets go to the bundles of their task; each table has the three rows."""
    assert [table.task for table in found.tables] == [Task.EMBEDDING, Task.NER]
    for table, measure in zip(found.tables, ("nDCG@10", "F1"), strict=True):
        assert [row.precision for row in table.rows] == list(Precision)
        assert [score.measure for row in table.rows for score in row.scores] == [measure] * 3


def test_f1_is_seqevals_strict_one(found: Comparison, tagger_bundle: Path, ner_data: Path) -> None:
    """INT8's F1 is what seqeval makes of the bundle's tags; torch and its export find the same."""
    torch_row, export, int8 = found.tables[1].rows
    sentences = read_split(ner_data, Split.TEST)
    tagger = Tagger(tagger_bundle)
    tags = [tagger.tag(sentence.words) for sentence in sentences]
    gold = [list(sentence.tags) for sentence in sentences]
    wanted = f1_score(gold, tags, mode="strict", scheme=IOB2)
    assert int8.scores[0].value == pytest.approx(wanted, abs=1e-9)
    assert int8.scores[0].kept == pytest.approx(wanted / torch_row.scores[0].value)
    assert export.scores[0].value == pytest.approx(torch_row.scores[0].value, abs=0.01)
    assert export.scores[0].bound is not None
    assert export.scores[0].bound <= export.scores[0].kept


def test_data_of_one_task_does_not_judge_the_other(
    tagger_bundle: Path, tiny_bundle: Path, eval_data: Path, ner_data: Path
) -> None:
    """A set or a model whose task no bundle has is an error, and so is a tagger without sentences."""
    with pytest.raises(BuildError, match="is for embedding, the bundles are for ner"):
        compare(CompareConfig((tagger_bundle,), eval_data=(ner_data, eval_data)))
    with pytest.raises(BuildError, match="is for ner, the bundles are for embedding"):
        compare(CompareConfig((tiny_bundle,), eval_data=(ner_data,)))
    with pytest.raises(EvaluationError, match="labelled sentences"):
        compare(CompareConfig((tagger_bundle, tiny_bundle), eval_data=(eval_data,)))


def test_a_model_of_the_other_task_is_refused(
    tagger_bundle: Path, tiny_model_dir: Path, ner_data: Path
) -> None:
    """An embedding model is no tagger's source."""
    with pytest.raises(BuildError, match="is for embedding"):
        compare(CompareConfig((tagger_bundle,), models=(str(tiny_model_dir),), eval_data=(ner_data,)))


def test_fewer_sentences_and_no_model(tagger_bundle: Path, ner_data: Path) -> None:
    """A bundle alone is its own measure, on as many sentences as asked for."""
    found = compare(
        CompareConfig((tagger_bundle,), eval_data=(ner_data,), eval_queries=30, queries=1, tokens=8)
    )
    (row,) = found.tables[0].rows
    assert row.scores[0].kept == 1.0
    assert "PyTorch FP32 is left out" in found.to_markdown()
