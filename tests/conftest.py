"""Real models small enough for tests: random weights, a tokenizer trained here, built by build_models."""

import json
import re
import shutil
import sysconfig
from collections import Counter
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from build_models.config import BuildConfig
from build_models.quality.docstrings import Docstring, iter_docstrings
from build_models.recipes import parse_recipes
from worker.bundle import Pooling

TINY_DIM = 32
TINY_TOKENS = 128
_VOCABULARY = 2000
_SHARED = Path(__file__).parents[1].parent / "shared" / "data"

# Ids 0 to 4 of a vocabulary: of BERT's kind, and of RoBERTa's (where padding is not 0).
_BERT_SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
_ROBERTA_SPECIALS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


class MakeModel(Protocol):
    """Writes the folder of a small random model; see `make_model`."""

    def __call__(
        self,
        folder: Path,
        architecture: str = "bert",
        *,
        pooling: Pooling | None = Pooling.MEAN,
        normalize: bool = True,
        max_tokens: int | None = TINY_TOKENS,
        positions: int = TINY_TOKENS,
        prompts: dict[str, str] | None = None,
        seed: int = 0,
    ) -> Path:
        """Returns `folder`, with config, weights and tokenizer in it."""
        ...


@pytest.fixture(scope="session")
def some_docstrings() -> list[Docstring]:
    """A few hundred docstrings of the standard library: real text that every machine has."""
    stdlib = Path(sysconfig.get_paths()["stdlib"])
    found = iter_docstrings([stdlib / name for name in ("asyncio", "email", "concurrent", "http", "json")])
    return list(islice(found, 600))


@pytest.fixture(scope="session")
def tokenizer_files(
    some_docstrings: list[Docstring], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """Trains the tokenizer that an architecture uses, once; returns its folder."""
    made: dict[str, Path] = {}

    def folder_for(architecture: str) -> Path:
        kind = "wordpiece" if architecture in ("bert", "distilbert") else "bytes"
        kind = "unigram" if architecture in ("xlm-roberta", "camembert") else kind
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp(f"tokenizer-{kind}")
            _train_tokenizer(kind, [docstring.text for docstring in some_docstrings], made[kind])
        return made[kind]

    return folder_for


@pytest.fixture(scope="session")
def make_model(tokenizer_files: Callable[[str], Path]) -> MakeModel:
    """Writes the folder of a small random model in sentence-transformers form.

    `pooling=None` leaves out all that sentence-transformers adds: a plain Hugging Face folder.
    """

    def make(
        folder: Path,
        architecture: str = "bert",
        *,
        pooling: Pooling | None = Pooling.MEAN,
        normalize: bool = True,
        max_tokens: int | None = TINY_TOKENS,
        positions: int = TINY_TOKENS,
        prompts: dict[str, str] | None = None,
        seed: int = 0,
    ) -> Path:
        shutil.copytree(tokenizer_files(architecture), folder, dirs_exist_ok=True)
        _write_weights(folder, architecture, positions, seed)
        if pooling is not None:
            _write_modules(folder, pooling, normalize=normalize)
            _write_json(folder / "sentence_bert_config.json", {"max_seq_length": max_tokens})
        if prompts is not None:
            _write_json(folder / "config_sentence_transformers.json", {"prompts": prompts})
        return folder

    return make


@pytest.fixture(scope="session")
def eval_data(some_docstrings: list[Docstring], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small evaluation set as Parquet: 60 documents and 40 judged queries made of their words."""
    folder = tmp_path_factory.mktemp("words", numbered=False)
    chosen = [docstring for docstring in some_docstrings if len(docstring.body) > 80][:60]
    names = [docstring.qualified_name for docstring in chosen]
    queries = [" ".join(docstring.body.split()[:12]) for docstring in chosen[:40]]
    _write_table(
        folder / "corpus.parquet",
        doc_id=names,
        title=[docstring.summary for docstring in chosen],
        text=[docstring.body for docstring in chosen],
    )
    _write_table(folder / "queries.parquet", query_id=[f"q{n}" for n in range(40)], text=queries)
    _write_table(
        folder / "qrels.parquet",
        query_id=[f"q{n}" for n in range(40)],
        doc_id=names[:40],
        relevance=[1] * 40,
    )
    return folder


@pytest.fixture(scope="session")
def tiny_model_dir(make_model: MakeModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT of 32 dimensions, at most 128 tokens, mean pooling and unit length."""
    return make_model(tmp_path_factory.mktemp("models") / "tiny-bert")


@pytest.fixture(scope="session")
def tiny_bundle(tiny_model_dir: Path, eval_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The INT8 bundle of `tiny_model_dir`; its fingerprint differs from `tiny_fp32_bundle`'s."""
    return _build(tiny_model_dir, "int8-dynamic", eval_data, tmp_path_factory.mktemp("bundles") / "tiny-int8")


@pytest.fixture(scope="session")
def tiny_fp32_bundle(tiny_model_dir: Path, eval_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The FP32 bundle of `tiny_model_dir`; its texts of equal length may share a run."""
    return _build(tiny_model_dir, "fp32", eval_data, tmp_path_factory.mktemp("bundles") / "tiny-fp32")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real evaluation sets that lies beside this checkout on some machines."""
    if not _SHARED.is_dir():
        pytest.skip(f"{_SHARED} is not there: the real evaluation sets are not part of the repository")
    return _SHARED


def _build(model: Path, recipe: str, eval_data: Path, out: Path) -> Path:
    # Here, because torch takes seconds to import and most tests do without it.
    from build_models.pipeline import build

    build(
        BuildConfig(
            model=str(model),
            out=out,
            recipes=parse_recipes(recipe),
            eval_data=(eval_data,),
            min_retention=0.5,  # random weights round worse than trained ones
        )
    )
    return out


def _train_tokenizer(kind: str, texts: list[str], folder: Path) -> None:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    start, end = ("<s>", 0), ("</s>", 2)
    if kind == "wordpiece":
        # By hand, as below: the library's own trainers of these two kinds break ties by chance.
        pieces = [*_BERT_SPECIALS, *_letters(texts), *(f"##{letter}" for letter in _letters(texts))]
        pieces = list(dict.fromkeys(pieces + [word.lower() for word in _words(texts)]))[:_VOCABULARY]
        vocabulary = {piece: index for index, piece in enumerate(pieces)}
        tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))  # noqa: S106  no password
        tokenizer.normalizer = normalizers.BertNormalizer()
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        start, end = ("[CLS]", 2), ("[SEP]", 3)
    elif kind == "bytes":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=_VOCABULARY,
            special_tokens=_ROBERTA_SPECIALS,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        tokenizer.train_from_iterator(texts, trainer)
    else:
        pieces = [*_ROBERTA_SPECIALS, "▁", *_letters(texts), *(f"▁{word}" for word in _words(texts))]
        scores = [(piece, -float(index)) for index, piece in enumerate(dict.fromkeys(pieces))]
        tokenizer = Tokenizer(models.Unigram(scores[:_VOCABULARY], unk_id=3))
        tokenizer.normalizer = normalizers.NFKC()
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.add_special_tokens(_BERT_SPECIALS if kind == "wordpiece" else _ROBERTA_SPECIALS)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start[0]} $A {end[0]}", special_tokens=[start, end]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    padding, unknown = ("[PAD]", "[UNK]") if kind == "wordpiece" else ("<pad>", "<unk>")
    _write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": 512,
            "pad_token": padding,
            "unk_token": unknown,
        },
    )


def _letters(texts: list[str]) -> list[str]:
    return sorted({letter for text in texts for letter in text.lower() if not letter.isspace()})


def _words(texts: list[str]) -> list[str]:
    counts = Counter(word for text in texts for word in re.findall(r"\w+", text))
    return sorted(counts, key=lambda word: (-counts[word], word))


def _write_weights(folder: Path, architecture: str, positions: int, seed: int) -> None:
    import torch
    import transformers

    offset = {"roberta": 2, "xlm-roberta": 2, "camembert": 2, "mpnet": 2}.get(architecture, 0)
    sizes: dict[str, Any] = {
        "vocab_size": _VOCABULARY,
        "max_position_embeddings": positions + offset,
        "pad_token_id": 1 if offset else 0,
    }
    if architecture == "distilbert":
        sizes |= {"dim": TINY_DIM, "n_layers": 2, "n_heads": 4, "hidden_dim": 64}
    else:
        sizes |= {
            "hidden_size": TINY_DIM,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 64,
            # Larger than the usual .02, so that attention is not almost uniform and mistakes in it show.
            "initializer_range": 0.2,
        }
    config = transformers.AutoConfig.for_model(architecture, **sizes)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = transformers.AutoModel.from_config(config)
    model.save_pretrained(folder)


def _write_modules(folder: Path, pooling: Pooling, *, normalize: bool) -> None:
    kinds = ["Transformer", "Pooling"] + (["Normalize"] if normalize else [])
    modules = [
        {
            "idx": index,
            "name": str(index),
            "path": f"{index}_{kind}" if index else "",
            "type": f"sentence_transformers.models.{kind}",
        }
        for index, kind in enumerate(kinds)
    ]
    _write_json(folder / "modules.json", modules)
    flags = {
        Pooling.MEAN: "pooling_mode_mean_tokens",
        Pooling.CLS: "pooling_mode_cls_token",
        Pooling.MAX: "pooling_mode_max_tokens",
        Pooling.LAST: "pooling_mode_lasttoken",
    }
    (folder / "1_Pooling").mkdir(exist_ok=True)
    _write_json(
        folder / "1_Pooling" / "config.json",
        {"word_embedding_dimension": TINY_DIM} | {flag: kind is pooling for kind, flag in flags.items()},
    )


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2), encoding="utf-8")


def _write_table(path: Path, **columns: list[Any]) -> None:
    pq.write_table(pa.table(columns), path)
