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
from build_models.quality.gate import Gate
from build_models.recipes import parse_recipes
from worker.bundle import Pooling

TINY_DIM = 32
TINY_TOKENS = 128
_VOCABULARY = 2000
_SHARED = Path(__file__).parents[1].parent / "shared" / "data"

# The tokenizer that an architecture's models have; bytes where none is named.
_WORDPIECE = frozenset({"bert", "distilbert", "electra", "ernie", "nomic_bert"})
_UNIGRAM = frozenset({"xlm-roberta", "camembert", "albert", "deberta-v2", "gte", "t5", "mt5", "gemma3_text"})
_AFTER_PADDING = frozenset({"roberta", "xlm-roberta", "camembert", "mpnet"})  # positions start there
# The models below have norms of one and biases of zero, as they are before any training, and are left so:
# what other tests measure of them is known.
_UNTRAINED = frozenset({"bert", "distilbert", *_AFTER_PADDING})
_TINY_SIZES: dict[str, Any] = {
    "hidden_size": TINY_DIM,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    # Larger than the usual .02, so that attention is not almost uniform and mistakes in it show.
    "initializer_range": 0.2,
}
_T5_SIZES = {"d_model": TINY_DIM, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
_DISENTANGLED = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "type_vocab_size": 0}
# As in the models that people use, but small: windows are shorter than the longest texts, and longer than
# the text that an export traces where nothing else is asked for.
_SIZES: dict[str, dict[str, Any]] = {
    "distilbert": {"dim": TINY_DIM, "n_layers": 2, "n_heads": 4, "hidden_dim": 64},
    "electra": _TINY_SIZES | {"embedding_size": 16},
    "albert": _TINY_SIZES | {"embedding_size": 16},
    "modernbert": _TINY_SIZES | {"local_attention": 48, "global_attn_every_n_layers": 2},
    "gte": _TINY_SIZES,
    "eurobert": _TINY_SIZES | {"num_key_value_heads": 2},
    "deberta": _TINY_SIZES | _DISENTANGLED | {"position_biased_input": False},
    "deberta-v2": _TINY_SIZES
    | _DISENTANGLED
    | {
        "position_biased_input": False,
        "position_buckets": 16,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
    },
    "t5": _T5_SIZES | {"feed_forward_proj": "relu"},
    "mt5": _T5_SIZES | {"feed_forward_proj": "gated-gelu"},
    "qwen3": _TINY_SIZES | {"num_key_value_heads": 2, "head_dim": 8},
    "gemma3_text": _TINY_SIZES
    | {
        "num_key_value_heads": 1,
        "head_dim": 16,  # of one key and value head: narrower products are left in floats
        "query_pre_attn_scalar": 16,
        "sliding_window": 48,
        "sliding_window_pattern": 2,
        "use_bidirectional_attention": True,
    },
}

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
        **sizes: Any,
    ) -> Path:
        """Returns `folder`, with config, weights and tokenizer in it."""
        ...


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds what `make faults` asks for."""
    parser.addoption(
        "--every-step", action="store_true", help="kill commands before every durable step, not some"
    )


@pytest.fixture(scope="session")
def stride(request: pytest.FixtureRequest) -> int:
    """Of so many durable steps the tests that kill commands try one; all with `make faults`."""
    return 1 if request.config.getoption("--every-step") else 5


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
        kind = "wordpiece" if architecture in _WORDPIECE else "bytes"
        kind = "unigram" if architecture in _UNIGRAM else kind
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp(f"tokenizer-{kind}")
            _train_tokenizer(kind, [docstring.text for docstring in some_docstrings], made[kind])
        return made[kind]

    return folder_for


@pytest.fixture(scope="session")
def make_model(tokenizer_files: Callable[[str], Path]) -> MakeModel:
    """Writes the folder of a small random model in sentence-transformers form.

    `pooling=None` leaves out all that sentence-transformers adds: a plain Hugging Face folder. Further
    arguments go into the transformer's config.
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
        **sizes: Any,
    ) -> Path:
        shutil.copytree(tokenizer_files(architecture), folder, dirs_exist_ok=True)
        _write_weights(folder, architecture, positions, seed, sizes)
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
            gate=Gate(
                min_retention=0.5, min_bound=0, min_overlap=0
            ),  # random weights round worse than trained ones
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


def _write_weights(folder: Path, architecture: str, positions: int, seed: int, sizes: dict[str, Any]) -> None:
    import torch
    import transformers

    common = {
        "vocab_size": _VOCABULARY,
        "max_position_embeddings": positions + (2 if architecture in _AFTER_PADDING else 0),
        "pad_token_id": 0 if architecture in _WORDPIECE else 1,
    }
    config = transformers.AutoConfig.for_model(
        architecture, **common | _SIZES.get(architecture, _TINY_SIZES) | sizes
    )
    kind = getattr(
        transformers, {"t5": "T5EncoderModel", "mt5": "MT5EncoderModel"}.get(architecture, "AutoModel")
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = kind(config) if kind is not transformers.AutoModel else kind.from_config(config)
        if architecture not in _UNTRAINED:
            _train_a_little(model)
    model.save_pretrained(folder)


def _train_a_little(model: Any) -> None:
    """Moves norms and biases away from one and zero, which would hide that one of them is left out."""
    import torch

    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))


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
        Pooling.MEAN_SQRT_LENGTH: "pooling_mode_mean_sqrt_len_tokens",
        Pooling.WEIGHTED_MEAN: "pooling_mode_weightedmean_tokens",
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
