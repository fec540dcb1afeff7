"""Training a tagger for real: it learns, survives kills bit for bit, and refuses what it cannot do."""

import dataclasses
import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from build_models.errors import BuildError, EvaluationError, OutputError, SourceError, TrainingError
from build_models.ner.batches import Batch
from build_models.ner.config import Amp, FinetuneConfig
from build_models.ner.finetune import finetune
from build_models.ner.model import new_tagger
from build_models.ner.train import Precision, Trainer, choose_precision

_CRASH = Path(__file__).with_name("crash.py")
_LABELS = ("O", "B-Thing", "I-Thing")
_DISTURBED = {"batch": 80, "epochs": 2}  # ten steps of training in all


def _short(config: dict[str, Any], out: Path, **other: Any) -> FinetuneConfig:
    return FinetuneConfig(**{**config, "out": out, "epochs": 1, "amp": Amp.OFF, **other})


def test_a_tagger_learns(tagger_dir: Path) -> None:
    """From random weights to strict F1 near 1 on sentences never seen, and the report says how."""
    report = json.loads((tagger_dir / "training.json").read_text())
    assert report["test"]["overall"]["f1"] > 0.97
    assert {name: score["f1"] > 0.9 for name, score in report["test"]["types"].items()} == {
        "Fault": True,
        "Thing": True,
    }
    assert report["test"]["lengths"]["≤ 8 words"]["sentences"] > 20
    assert report["epochs"][0]["loss"] > 3 * report["epochs"][-1]["loss"]
    best = max(range(3), key=lambda epoch: report["epochs"][epoch]["f1"])
    assert report["best"] == best
    assert report["validation"]["overall"]["f1"] == report["epochs"][best]["f1"]
    text = (tagger_dir / "training.md").read_text()
    assert "no GPU is at hand" in text or report["precision"]["device"] == "cuda"
    assert "(kept)" in text
    assert not tagger_dir.with_name(tagger_dir.name + ".training").exists()


def test_the_folder_is_plain_hugging_face(tagger_dir: Path) -> None:
    """Transformers reads weights, labels and tokenizer of the folder, and tags with them."""
    model = transformers.AutoModelForTokenClassification.from_pretrained(tagger_dir).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tagger_dir)
    assert list(model.config.id2label.values()) == ["O", "B-Fault", "I-Fault", "B-Thing", "I-Thing"]
    encoded = tokenizer("the file name of a error", return_tensors="pt")
    with torch.inference_mode():
        places = model(**encoded).logits.argmax(-1)[0].tolist()
    assert [model.config.id2label[place] for place in places[1:-1]] == [
        *("O", "B-Thing", "I-Thing", "O", "O", "B-Fault")
    ]


@pytest.fixture(scope="module")
def undisturbed(finetune_config: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tagger of a short run that nothing disturbed."""
    out = tmp_path_factory.mktemp("undisturbed") / "tagger"
    finetune(_short(finetune_config, out, **_DISTURBED))
    return out


def test_killed_runs_give_the_same_weights(
    finetune_config: dict[str, Any], undisturbed: Path, tmp_path: Path
) -> None:
    """Killed again and again at other durable steps, a run ends with the very bytes of an undisturbed one."""
    out = tmp_path / "tagger"
    places = {"data": str(finetune_config["data"]), "out": str(out)}
    # A checkpoint after every step of training, so that it takes many lives.
    settings = {**finetune_config, **_DISTURBED, **places, "amp": Amp.OFF, "checkpoint_seconds": 0}
    assert _crash(settings) >= 8
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        assert (out / name).read_bytes() == (undisturbed / name).read_bytes(), name
    wanted, found = (json.loads((path / "training.json").read_text()) for path in (undisturbed, out))
    for name in ("epochs", "best", "test"):
        assert found[name] == wanted[name]
    assert {path.name for path in tmp_path.iterdir()} == {"tagger"}


def _crash(settings: dict[str, Any]) -> int:
    result = subprocess.run(
        [sys.executable, str(_CRASH), json.dumps(settings)],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return int(result.stdout)


def test_another_seed_gives_other_weights(finetune_config: dict[str, Any], tmp_path: Path) -> None:
    """The seed decides: equal seeds give equal bytes, another seed gives others."""
    outs = [tmp_path / name for name in ("one", "same", "other")]
    for out, seed in zip(outs, (1, 1, 2), strict=True):
        finetune(_short(finetune_config, out, seed=seed))
    one, same, other = ((out / "model.safetensors").read_bytes() for out in outs)
    assert one == same
    assert one != other


def test_a_stopped_run_is_not_thrown_away(finetune_config: dict[str, Any], tmp_path: Path) -> None:
    """What is left of a run is kept unless it is resumed with its own settings, or --force is given."""
    config = _short(finetune_config, tmp_path / "tagger")
    left = tmp_path / "tagger.training"
    left.mkdir()
    with pytest.raises(TrainingError, match="give --resume to go on with it"):
        finetune(config)
    (left / "run.json").write_text(json.dumps({"identity": _identity(config)}))
    with pytest.raises(TrainingError, match=r"epochs was 9 and is 1.*seed was 7 and is 20"):
        finetune(dataclasses.replace(config, resume=True))
    with (left / "lock").open() as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        with pytest.raises(TrainingError, match="another run is at work"):
            finetune(dataclasses.replace(config, resume=True))
    (left / "run.json").write_text("{")
    with pytest.raises(TrainingError, match="cannot read"):
        finetune(dataclasses.replace(config, resume=True))
    finetune(dataclasses.replace(config, force=True))
    assert (tmp_path / "tagger" / "model.safetensors").is_file()
    assert not left.exists()


def _identity(config: FinetuneConfig) -> dict[str, Any]:
    return {**config.settings(), "epochs": 9, "seed": 7}


def test_a_finished_run_is_not_run_again(
    finetune_config: dict[str, Any], tagger_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Resuming what is done says so and changes nothing; other settings and a second run are refused."""
    before = (tagger_dir / "model.safetensors").stat()
    report = finetune(FinetuneConfig(**finetune_config, out=tagger_dir, resume=True))
    assert "is finished already" in capsys.readouterr().err
    assert report.test.overall.f1 > 0.97
    assert (tagger_dir / "model.safetensors").stat() == before
    with pytest.raises(TrainingError, match=r"learning_rate was 0\.004 and is 0\.5"):
        finetune(FinetuneConfig(**{**finetune_config, "learning_rate": 0.5}, out=tagger_dir, resume=True))
    with pytest.raises(OutputError, match="is a tagger already"):
        finetune(FinetuneConfig(**finetune_config, out=tagger_dir))


def test_a_tagger_can_be_trained_on(
    finetune_config: dict[str, Any], tagger_dir: Path, ner_data: Path, tmp_path: Path, write_split: Any
) -> None:
    """Weights of a tagger for other labels are taken, its head is not; one label more is no trouble."""
    data = tmp_path / "data"
    for split in ("train", "validation", "test"):
        write_split(data, split, [["the", "file"]] * 40, [["B-Article", "O"]] * 40)
    finetune(_short(finetune_config, tmp_path / "tagger", model=str(tagger_dir), data=data))
    config = json.loads((tmp_path / "tagger" / "config.json").read_text())
    assert config["id2label"] == {"0": "O", "1": "B-Article", "2": "I-Article"}


def test_long_sentences_are_cut_and_told(finetune_config: dict[str, Any], tmp_path: Path) -> None:
    """Sentences beyond the longest window are trained on in pieces, and the report says how many."""
    finetune(_short(finetune_config, tmp_path / "tagger", max_tokens=8))
    report = json.loads((tmp_path / "tagger" / "training.json").read_text())
    assert report["cut_sentences"]["test"] > 40
    settings = json.loads((tmp_path / "tagger" / "tokenizer_config.json").read_text())
    assert settings["model_max_length"] == 8


def test_bad_input_is_named(finetune_config: dict[str, Any], tmp_path: Path, write_split: Any) -> None:
    """A model that is none, tags that training never shows, settings without sense: one line, no folder."""
    out = tmp_path / "tagger"
    with pytest.raises(SourceError, match="is no model folder"):
        finetune(_short(finetune_config, out, model=str(tmp_path)))
    data = tmp_path / "data"
    for split, tag in (("train", "B-A"), ("validation", "B-A"), ("test", "B-New")):
        write_split(data, split, [["x"]] * 40, [[tag]] * 40)
    with pytest.raises(EvaluationError, match=r"test\.parquet has tags that the model cannot give: B-New"):
        finetune(_short(finetune_config, out, data=data))
    assert not out.exists()
    for wrong in ({"epochs": 0}, {"learning_rate": 0.0}, {"resume": True, "force": True}):
        with pytest.raises(BuildError):
            _short(finetune_config, out, **wrong)


def test_a_full_disk_is_told(
    finetune_config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint that finds no space ends the run in one line, leaves no tagger, and the run can go on."""
    real = os.fsync

    def full(descriptor: int) -> None:
        if "checkpoint.pt" in str(Path(f"/proc/self/fd/{descriptor}").readlink()):
            raise OSError(28, os.strerror(28))
        real(descriptor)

    config = _short(finetune_config, tmp_path / "tagger")
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OutputError, match=r"checkpoint\.pt.*No space left"):
            finetune(config)
    assert not config.out.exists()
    finetune(dataclasses.replace(config, resume=True))
    assert config.out.is_dir()


def _batch(size: int, seed: int) -> Batch:
    chance = np.random.default_rng(seed)
    ids = chance.integers(5, 500, (size, 12))
    return Batch(ids, np.ones_like(ids), (ids % 3).astype(np.int64))


@pytest.mark.parametrize("precision", list(Precision))
def test_every_precision_learns(tiny_model_dir: Path, precision: Precision) -> None:
    """In float32, bfloat16 and float16 with its gradient scaler, a batch's loss falls by half in 30 steps."""
    tagger = new_tagger(tiny_model_dir, _LABELS, seed=0)
    trainer = Trainer(tagger, 40, 1e-2, seed=0, precision=precision)
    losses = [trainer.step(_batch(8, 0)) for _ in range(30)]
    assert losses[-1] < losses[0] / 2
    assert all(weight.dtype == torch.float32 for weight in tagger.network.parameters())


def test_a_loss_that_is_no_number_ends_the_run(tiny_model_dir: Path) -> None:
    """Weights that ran away are told at the step where it shows, with what to do."""
    tagger = new_tagger(tiny_model_dir, _LABELS, seed=0)
    torch.nn.init.constant_(tagger.network.classifier.weight, float("inf"))
    trainer = Trainer(tagger, 10, 1e-3, seed=0, precision=Precision.FLOAT32)
    with pytest.raises(TrainingError, match="the loss is nan at step 1; give a lower --learning-rate"):
        trainer.step(_batch(4, 0))


def test_the_choice_of_precision_is_measured(tiny_model_dir: Path) -> None:
    """The trial leaves the weights alone and says what it saw; turned off, nothing is tried."""
    tagger = new_tagger(tiny_model_dir, _LABELS, seed=0)
    before = {name: weight.clone() for name, weight in tagger.network.state_dict().items()}
    choice = choose_precision(tagger, Amp.AUTO, [_batch(4, seed) for seed in range(4)])
    assert choice.speedup is not None
    assert choice.speedup > 0
    assert "times as fast" in choice.reason
    if choice.device == "cpu":
        assert choice.precision is (Precision.BFLOAT16 if choice.speedup >= 1.1 else Precision.FLOAT32)
        assert "no GPU is at hand" in choice.reason
    assert all(torch.equal(before[name], weight) for name, weight in tagger.network.state_dict().items())
    off = choose_precision(tagger, Amp.OFF, [])
    assert (off.precision, off.speedup) == (Precision.FLOAT32, None)


def test_command_line(finetune_config: dict[str, Any], tagger_dir: Path, tmp_path: Path) -> None:
    """`finetune` prints the report and code 0; wrong usage is code 2, what fails code 1, in one line each."""
    out = tmp_path / "tagger"
    places = ("--model", finetune_config["model"], "--data", str(finetune_config["data"]), "--out", str(out))
    done = _run(*places, "--epochs", "1", "--amp", "off", "--threads", "1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith(f"{out}: strict F1 ")
    assert "mixed precision is turned off" in done.stdout
    assert "epoch 1 of 1: 400 windows in" in done.stderr
    other = _run(*places, "--epochs", "2", "--resume")
    assert (other.returncode, other.stdout) == (1, "")
    assert other.stderr.startswith(f"error: {out} began with other settings: ")
    assert "epochs was 1 and is 2" in other.stderr
    wrong = _run(*places, "--epochs", "0")
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "build_models", "finetune", *arguments],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
