"""Windows against the tokenizer library's own, and pooled vectors against plain Python."""

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from tokenizers import Tokenizer as RustTokenizer

from worker.errors import RequestError
from worker.tokenizer import Tokenizer
from worker.windows import Chunking, Frame, check_chunking, pool, split

ARCHITECTURES = ("bert", "roberta", "xlm-roberta")
MAX_TOKENS = 24
FRAME = Frame(np.array([101]), np.array([102]))

words = st.one_of(
    st.sampled_from(
        ["the", "list", "of", "returns", "\n\n", "naïve", "北京", "x" * 80, "...", "[CLS]", "</s>"]
    ),
    st.text(max_size=12),
)
long_texts = st.lists(words, min_size=1, max_size=150).map(" ".join)
# Window and overlap as a caller may ask for them, where the model adds two special tokens.
cuts = st.integers(3, MAX_TOKENS).flatmap(
    lambda window: st.tuples(st.just(window), st.integers(0, min((window - 1) // 2, window - 3)))
)


def library_windows(path: Path, text: str, window: int, overlap: int) -> list[list[int]]:
    """Returns the windows that the library's truncation with a stride makes: the oracle."""
    tokenizer = RustTokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.enable_truncation(window, stride=overlap)
    encoding = tokenizer.encode(text)
    return [encoding.ids, *(rest.ids for rest in encoding.overflowing)]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=long_texts, cut=cuts, max_windows=st.sampled_from([1, 2, 7, 1000]))
def test_windows_are_the_library_s(
    tokenizer_files: Callable[[str], Path],
    architecture: str,
    text: str,
    cut: tuple[int, int],
    max_windows: int,
) -> None:
    """Ids, special tokens and overlaps are those of the tokenizer's own windows; what is cut is told."""
    path = tokenizer_files(architecture) / "tokenizer.json"
    (windows,) = Tokenizer(path, MAX_TOKENS).windows([text], Chunking(*cut, max_windows))
    expected = library_windows(path, text, *cut)
    if windows is None:
        assert len(expected) == 1
        assert len(expected[0]) == 2
        return
    assert [ids.tolist() for ids in windows.ids] == expected[:max_windows]
    assert windows.truncated == (len(expected) > max_windows)
    assert list(windows.weights) == [len(ids) - 2 for ids in expected[:max_windows]]
    shared = cut[1] * (len(windows.ids) - 1)
    assert windows.token_count == sum(windows.weights) - shared + 2


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(words | long_texts, min_size=1, max_size=5))
def test_text_that_fits_is_as_without_windows(
    tokenizer_files: Callable[[str], Path], architecture: str, texts: list[str]
) -> None:
    """Where a window holds the text, it has the ids that the text has without windows."""
    tokenizer = Tokenizer(tokenizer_files(architecture) / "tokenizer.json", MAX_TOKENS)
    plain = tokenizer.encode(texts)
    cut = tokenizer.windows(texts, Chunking(MAX_TOKENS, 3, 64))
    for tokens, windows in zip(plain, cut, strict=True):
        assert tokens.empty == (windows is None)
        if windows is not None:
            assert windows.ids[0].tolist() == tokens.ids.tolist()
            assert (len(windows.ids) > 1) == tokens.truncated
            assert tokens.truncated or windows.token_count == len(tokens.ids)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=long_texts, cut=cuts, max_windows=st.sampled_from([1, 2, 1000]), prompt=st.sampled_from(["", "né: "])
)
def test_windows_tell_where_they_lie(
    tokenizer_files: Callable[[str], Path],
    architecture: str,
    text: str,
    cut: tuple[int, int],
    max_windows: int,
    prompt: str,
) -> None:
    """Spans are the library's offsets in code points without the prompt; ids are those without spans."""
    path = tokenizer_files(architecture) / "tokenizer.json"
    tokenizer = Tokenizer(path, MAX_TOKENS)
    (plain,) = tokenizer.windows([prompt + text], Chunking(*cut, max_windows))
    (found,) = tokenizer.windows([prompt + text], Chunking(*cut, max_windows, separate=True))
    if plain is None:
        assert found is None
        return
    assert plain.spans is None
    assert found is not None
    assert [ids.tolist() for ids in found.ids] == [ids.tolist() for ids in plain.ids]
    library = RustTokenizer.from_file(str(path))
    library.no_padding()
    library.enable_truncation(cut[0], stride=cut[1])
    encoding = library.encode(prompt + text)
    expected = []
    for window in [encoding, *encoding.overflowing][:max_windows]:
        marks = zip(window.offsets, window.special_tokens_mask, strict=True)
        inside = [(at, to) for (at, to), special in marks if not special and to > at]
        first, last = (min(at for at, _ in inside), max(to for _, to in inside)) if inside else (0, 0)
        expected.append((max(0, first - len(prompt)), max(0, last - len(prompt))))
    spans = found.behind(prompt).spans
    assert spans is not None
    assert list(spans) == expected
    assert all(0 <= at <= to <= len(text) for at, to in spans)


def test_only_the_beginning_of_a_very_long_text_is_read(tokenizer_files: Callable[[str], Path]) -> None:
    """What no window holds is not tokenized: a hundred times more text gives the same windows."""
    tokenizer = Tokenizer(tokenizer_files("bert") / "tokenizer.json", MAX_TOKENS)
    text = "returns the list of names " * 100
    (short,) = tokenizer.windows([text], Chunking(12, 2, 3))
    (long,) = tokenizer.windows([text * 100], Chunking(12, 2, 3))
    assert short is not None
    assert long is not None
    assert [ids.tolist() for ids in long.ids] == [ids.tolist() for ids in short.ids]
    assert long.truncated
    assert len(tokenizer._beginning(text * 100, 26)) < len(text)


@given(tokens=st.integers(1, 300), cut=cuts, max_windows=st.integers(1, 40))
def test_windows_hold_every_token_up_to_the_cut(tokens: int, cut: tuple[int, int], max_windows: int) -> None:
    """Put together without their overlaps, windows are the text, as far as it is not cut."""
    window, overlap = cut
    content = np.arange(tokens) + 1000
    windows = split(content, FRAME, Chunking(window, overlap, max_windows))
    assert 1 <= len(windows.ids) <= max_windows
    assert all(ids[0] == 101 and ids[-1] == 102 and len(ids) <= window for ids in windows.ids)
    pieces = [ids[1:-1].tolist() for ids in windows.ids]
    whole = pieces[0] + [token for piece in pieces[1:] for token in piece[overlap:]]
    assert whole == content[: windows.token_count - 2].tolist()
    assert all(before[len(before) - overlap :] == after[:overlap] for before, after in pairwise(pieces))
    assert windows.truncated == (len(whole) < tokens)
    assert not windows.truncated or len(windows.ids) == max_windows


@pytest.mark.parametrize(
    ("window", "overlap", "message"),
    [
        (129, 0, "window_tokens is 129, the model reads at most 128 tokens"),
        (2, 0, "window_tokens is 2, the least is 3"),
        (1, 0, "window_tokens is 1, the least is 3"),
        (0, 64, "overlap_tokens is 64, it must be less than half of window_tokens, which is 128"),
        (20, 10, "overlap_tokens is 10, it must be less than half"),
        (3, 1, "overlap_tokens is 1, but a window of 3 tokens holds 1 of the text"),
        (2**32 - 1, 2**32 - 1, "window_tokens is 4294967295"),
    ],
)
def test_bad_chunking_names_the_field(window: int, overlap: int, message: str) -> None:
    """A refusal says which field, what it is, and what it must be."""
    with pytest.raises(RequestError, match=message):
        check_chunking(window, overlap, max_tokens=128, special_tokens=2, max_windows=64)


@given(window=st.integers(0, 200), overlap=st.integers(0, 200), special=st.integers(0, 3))
def test_accepted_chunking_always_moves_on(window: int, overlap: int, special: int) -> None:
    """Whatever passes the check cuts every text into windows that each hold a new token."""
    try:
        chunking = check_chunking(window, overlap, max_tokens=128, special_tokens=special, max_windows=5)
    except RequestError:
        return
    assert chunking.step(special) >= 1
    assert chunking.window_tokens <= 128


unit_values = st.floats(-1, 1, width=32, allow_subnormal=False).map(
    lambda value: 0.0 if abs(value) < 1e-6 else value
)


@given(
    rows=st.lists(st.lists(unit_values, min_size=3, max_size=3), min_size=1, max_size=6),
    weights=st.lists(st.integers(1, 500), min_size=6, max_size=6),
    normalize=st.booleans(),
)
def test_pooled_vector_is_the_weighted_mean(
    rows: list[list[float]], weights: list[int], normalize: bool
) -> None:
    """The mean by tokens, of unit length where the model's vectors have that; one window stays as it is."""
    vectors = np.array(rows, dtype=np.float32)
    chosen = tuple(weights[: len(rows)])
    result = pool(vectors, chosen, normalize=normalize).tolist()
    if len(rows) == 1:
        assert result == vectors[0].tolist()
        return
    expected = [
        math.fsum(row[column] * weight for row, weight in zip(vectors.tolist(), chosen, strict=True))
        / sum(chosen)
        for column in range(3)
    ]
    length = math.hypot(*expected)
    if normalize and length > 1e-9:
        expected = [value / length for value in expected]
    if not normalize or length > 1e-9 or length == 0:
        assert result == pytest.approx(expected, abs=1e-6)
