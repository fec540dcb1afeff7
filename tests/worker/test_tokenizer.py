"""Reading only the beginning of a long text changes no token, for every kind of tokenizer."""

import json
from collections.abc import Callable
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings
from tokenizers import Tokenizer as RustTokenizer

from worker.errors import BundleError
from worker.tokenizer import Tokenizer
from worker.windows import Chunking

ARCHITECTURES = ("bert", "roberta", "xlm-roberta")
MAX_TOKENS = 16

words = st.one_of(
    st.sampled_from(
        ["the", "list", "of", "returns", "  ", "\n\n", "naïve", "e\u0301", "北京", "x" * 300, "..."]
    ),
    st.text(max_size=12),
)
long_texts = st.lists(words, min_size=1, max_size=400).map(" ".join)


def whole(path: Path, text: str) -> tuple[list[int], bool]:
    """Returns ids and cut of a text that is read whole: the oracle."""
    tokenizer = RustTokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)
    encoding = tokenizer.encode(text)
    return encoding.ids, bool(encoding.overflowing)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=long_texts)
def test_beginning_is_enough(tokenizer_files: Callable[[str], Path], architecture: str, text: str) -> None:
    """Ids and the mark of the cut equal those of a tokenizer that reads the whole text."""
    path = tokenizer_files(architecture) / "tokenizer.json"
    (tokens,) = Tokenizer(path, MAX_TOKENS).encode([text])
    assert (tokens.ids.tolist(), tokens.truncated) == whole(path, text)


@pytest.mark.parametrize("text", ["", "   ", "\n"])
def test_nothing_to_read_is_empty(tokenizer_files: Callable[[str], Path], text: str) -> None:
    """A text of which only special tokens remain says so."""
    (tokens,) = Tokenizer(tokenizer_files("bert") / "tokenizer.json", MAX_TOKENS).encode([text])
    assert tokens.empty
    assert not tokens.truncated


def test_own_settings_of_the_file_are_not_used(
    tokenizer_files: Callable[[str], Path], tmp_path: Path
) -> None:
    """Padding and truncation in the file would change vectors: both are switched off."""
    raw = json.loads((tokenizer_files("bert") / "tokenizer.json").read_text())
    file = tmp_path / "tokenizer.json"
    file.write_text(json.dumps(raw))
    padded = RustTokenizer.from_file(str(file))
    padded.enable_padding(length=64)
    padded.enable_truncation(5)
    padded.save(str(file))
    (tokens,) = Tokenizer(file, MAX_TOKENS).encode(["the list of the list of the list"])
    assert 5 < len(tokens.ids) <= MAX_TOKENS


def test_file_that_is_no_tokenizer(tmp_path: Path) -> None:
    """Nonsense is a BundleError that names the file."""
    (tmp_path / "t.json").write_text("{}")
    with pytest.raises(BundleError, match=r"t\.json is no tokenizer"):
        Tokenizer(tmp_path / "t.json", MAX_TOKENS)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=long_texts)
def test_end_is_enough(tokenizer_files: Callable[[str], Path], architecture: str, text: str) -> None:
    """Where the end is kept, ids equal those of a tokenizer that reads all of it and cuts on the left."""
    path = tokenizer_files(architecture) / "tokenizer.json"
    oracle = RustTokenizer.from_file(str(path))
    oracle.no_padding()
    oracle.enable_truncation(MAX_TOKENS, direction="left")
    (tokens,) = Tokenizer(path, MAX_TOKENS).encode([text], keep_end=True)
    expected = oracle.encode(text)
    assert (tokens.ids.tolist(), tokens.truncated) == (expected.ids, bool(expected.overflowing))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("special", [True, False])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.one_of(long_texts, st.sampled_from(["", "   ", " " * 500 + "x"])))
def test_tokens_of_a_text(
    tokenizer_files: Callable[[str], Path], architecture: str, special: bool, text: str
) -> None:
    """Tokens are those of a tokenizer that never cuts: numbers, names, places in code points."""
    path = tokenizer_files(architecture) / "tokenizer.json"
    oracle = RustTokenizer.from_file(str(path))
    oracle.no_padding()
    oracle.no_truncation()
    expected = oracle.encode(text, add_special_tokens=special)
    found = list(Tokenizer(path, MAX_TOKENS).tokens(text, special=special))
    assert [token.id for token in found] == expected.ids
    assert [token.special for token in found] == [mask == 1 for mask in expected.special_tokens_mask]
    for token, (start, stop), name in zip(found, expected.offsets, expected.tokens, strict=True):
        if token.special:
            assert (token.text, token.start, token.stop) == (name, 0, 0)
        else:
            assert (token.text, token.start, token.stop) == (text[start:stop], start, stop)


def test_windows_of_a_text_that_begins_with_nothing(tokenizer_files: Callable[[str], Path]) -> None:
    """A page of spaces before the first word is no reason to fail, also for the first text of all."""
    tokenizer = Tokenizer(tokenizer_files("bert") / "tokenizer.json", MAX_TOKENS)
    (windows,) = tokenizer.windows([" " * 5000 + "the list"], Chunking(MAX_TOKENS, 0, 4))
    assert windows is not None
    assert windows.ids[0].tolist() == tokenizer.encode(["the list"])[0].ids.tolist()
