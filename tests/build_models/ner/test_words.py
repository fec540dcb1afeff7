"""Words to windows: every word keeps its place, however long the sentence is."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from build_models.errors import SourceError
from build_models.ner.batches import NO_TAG, example, order, pad
from build_models.ner.words import Window, WordTokenizer, cut

_SENTENCE = ["Parameterization", "of", "the", "\u200b", "unknown-value", "file", "is", "éléphantesque", "!"]


@pytest.fixture(scope="session")
def tokenizer_file(tiny_model_dir: Path) -> Path:
    """A small word-piece tokenizer: common words are whole, others are cut into letters."""
    return tiny_model_dir / "tokenizer.json"


@given(st.lists(st.integers(0, 12), min_size=1, max_size=40), st.integers(1, 15))
def test_cuts_are_between_words(pieces: list[int], room: int) -> None:
    """Spans follow each other without gaps; each fits, or is one word that no window could hold."""
    spans = cut(pieces, room)
    assert [first for first, _ in spans] == [0, *(last for _, last in spans[:-1])]
    assert spans[-1][1] == len(pieces)
    for first, last in spans:
        assert first < last
        fits = sum(pieces[first:last]) <= room
        assert fits or sum(count > 0 for count in pieces[first:last]) == 1


def test_places_are_first_pieces(tokenizer_file: Path) -> None:
    """The token at a word's place is the first that the tokenizer makes of that word alone."""
    oracle = Tokenizer.from_file(str(tokenizer_file))
    (windows,) = WordTokenizer(tokenizer_file, 128).encode([_SENTENCE])
    (window,) = windows
    assert window.words.tolist() == [0, 1, 2, 4, 5, 6, 7, 8]  # nothing is left of a zero-width space
    for place, word in zip(window.places, window.words, strict=True):
        assert window.ids[place] == oracle.encode(_SENTENCE[word], add_special_tokens=False).ids[0]
    assert [window.ids[0], window.ids[-1]] == [2, 3]  # [CLS] and [SEP]


@pytest.mark.parametrize("max_tokens", [5, 9, 24])
def test_long_sentences_are_cut_and_lose_no_word(tokenizer_file: Path, max_tokens: int) -> None:
    """Windows are never longer than allowed, special tokens are in each, and every word is in one of them."""
    ((whole,),) = WordTokenizer(tokenizer_file, 512).encode([_SENTENCE])
    (windows,) = WordTokenizer(tokenizer_file, max_tokens).encode([_SENTENCE])
    assert len(windows) > 1
    assert all(len(window.ids) <= max_tokens for window in windows)
    assert all((window.ids[0], window.ids[-1]) == (2, 3) for window in windows)
    assert np.concatenate([window.words for window in windows]).tolist() == whole.words.tolist()
    firsts = np.concatenate([window.ids[window.places] for window in windows])
    assert firsts.tolist() == whole.ids[whole.places].tolist()


def test_a_sentence_without_pieces_has_no_window(tokenizer_file: Path) -> None:
    """Sentences of nothing but invisible characters do not reach the model, and no words neither."""
    assert WordTokenizer(tokenizer_file, 16).encode([["\u200b", "\u200b"], []]) == [[], []]


def test_windows_without_room_are_refused(tokenizer_file: Path, tmp_path: Path) -> None:
    """Two tokens hold no word; a file that is no tokenizer is named."""
    with pytest.raises(SourceError, match="no room for a word"):
        WordTokenizer(tokenizer_file, 2)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(SourceError, match=r"tokenizer\.json is no tokenizer"):
        WordTokenizer(tmp_path / "tokenizer.json", 16)


@given(st.lists(st.integers(1, 90), min_size=1, max_size=200), st.integers(1, 20), st.integers(0, 9))
def test_an_epoch_holds_each_window_once(lengths: list[int], size: int, epoch: int) -> None:
    """Batches are a permutation of the windows, no larger than asked for, and equal for an equal seed."""
    batches = order(lengths, size, 3, epoch)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    assert max(map(len, batches)) <= size
    again = order(lengths, size, 3, epoch)
    assert all(np.array_equal(one, other) for one, other in zip(batches, again, strict=True))


def test_only_first_pieces_teach() -> None:
    """The loss sees one token for each word: neither later pieces, special tokens nor padding."""
    long = Window(np.arange(10, 15), places=np.array([1, 3]), words=np.array([0, 1]))
    short = Window(np.arange(20, 23), places=np.array([1]), words=np.array([2]))
    batch = pad([example(long, [4, 5, 6]), example(short, [4, 5, 6])], padding_id=0)
    assert batch.targets.tolist() == [
        [NO_TAG, 4, NO_TAG, 5, NO_TAG],
        [NO_TAG, 6, NO_TAG, NO_TAG, NO_TAG],
    ]
    assert batch.ids.tolist() == [[10, 11, 12, 13, 14], [20, 21, 22, 0, 0]]
    assert batch.mask.tolist() == [[1] * 5, [1, 1, 1, 0, 0]]
