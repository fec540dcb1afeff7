"""From bytes to tokens or a reason, text by text."""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from tokenizers import Tokenizer as RustTokenizer
from tokenizers import models, pre_tokenizers

from worker.errors import RequestError, TokenizerError, WorkerError
from worker.requests.batch import _CHUNK_BYTES, _chunks
from worker.requests.intake import Intake, Options, check_batch, check_query, decode
from worker.settings.config import Limits
from worker.tokenizer import Tokenizer
from worker.windows import Chunking, Windows

LIMITS = Limits(max_text_bytes=50, max_query_texts=2, max_batch_items=3, max_batch_bytes=100)


class Asked:
    """An intake with a tokenizer that knows three words and fails on every other."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.intake = Intake(LIMITS)

    def query(self, texts: Sequence[str], options: Options) -> list[Windows]:
        """Asks for a query."""
        return asyncio.run(self.intake.query(self.tokenizer, texts, options))

    def documents(self, texts: Sequence[bytes], options: Options) -> list[Windows | WorkerError]:
        """Asks for documents."""
        return asyncio.run(self.intake.documents(self.tokenizer, texts, options))


@pytest.fixture
def asked(tmp_path: Path) -> Iterator[Asked]:
    """Someone to ask."""
    tokenizer = RustTokenizer(models.WordLevel({"red": 0, "green": 1, "blue": 2}, unk_token="missing"))  # noqa: S106
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    made = Asked(Tokenizer(tmp_path / "tokenizer.json", 4))
    yield made
    made.intake.close()


CUT = Options(chunking=Chunking(window_tokens=2, overlap_tokens=0, max_windows=3))


@pytest.mark.parametrize("options", [Options(), CUT])
def test_text_on_which_the_tokenizer_fails_is_alone_with_it(asked: Asked, options: Options) -> None:
    """The tokenizer does not say which text of a batch it failed on; the others get their tokens."""
    outcomes = asked.documents([b"red blue", b"purple", b"green"], options)
    assert isinstance(outcomes[1], TokenizerError)
    runs = [[ids.tolist() for ids in one.ids] for one in outcomes if isinstance(one, Windows)]
    assert runs == [[[0, 2]], [[1]]]
    with pytest.raises(TokenizerError, match=r"texts\[1\]: the tokenizer failed"):
        asked.query(["red", "purple"], options)


def test_outcomes_keep_their_places(asked: Asked) -> None:
    """Refused texts of every kind stand where their texts stood."""
    texts = [b"", b"red", b"\xff", b"x" * 51, b"red " * 5, b"blue"]
    outcomes = asked.documents(texts, Options(reject_long=True))
    assert [isinstance(one, Windows) for one in outcomes] == [False, True, False, False, False, True]
    reasons = [str(one) for one in outcomes if isinstance(one, RequestError)]
    for reason, words in zip(reasons, ["empty", "UTF-8", "51 bytes", "more than 4 tokens"], strict=True):
        assert words in reason


def test_windows_that_do_not_hold_a_text(asked: Asked) -> None:
    """A text longer than all its windows is cut and says so, or is refused where its caller wants no cut."""
    cut, whole = asked.query(["red " * 7, "red " * 6], CUT)
    assert (len(cut.ids), cut.token_count, cut.truncated) == (3, 6, True)
    assert (len(whole.ids), whole.token_count, whole.truncated) == (3, 6, False)
    strict = Options(chunking=CUT.chunking, reject_long=True)
    assert len(asked.query(["red " * 6], strict)) == 1
    with pytest.raises(RequestError, match=r"texts\[0\]: .*does not fit into 3 windows of 2 tokens"):
        asked.query(["red " * 7], strict)


def test_query_waits_neither_for_a_batch_nor_for_a_long_query(asked: Asked) -> None:
    """A short query gets its tokens while the thread of bulk work and of long queries is busy."""
    go_on = threading.Event()

    async def scenario() -> None:
        asked.intake._bulk_thread.submit(go_on.wait, 60)
        long = asyncio.create_task(asked.intake.query(asked.tokenizer, ["red " * 9000], Options()))
        (short,) = await asyncio.wait_for(asked.intake.query(asked.tokenizer, ["blue"], Options()), 60)
        assert short.ids[0].tolist() == [2]
        assert not long.done()
        go_on.set()
        (found,) = await asyncio.wait_for(long, 60)
        assert found.truncated

    asyncio.run(scenario())


def test_prompt_is_tokenized_with_the_text(asked: Asked) -> None:
    """A prompt is text in front of the text."""
    (tokens,) = asked.query(["blue"], Options(prompt="red "))
    np.testing.assert_array_equal(tokens.ids[0], [0, 2])


@given(st.binary(max_size=60))
def test_decode_accepts_exactly_utf_8(text: bytes) -> None:
    """What comes out encodes to what went in; everything else is refused."""
    try:
        expected: str | None = text.decode("utf-8")
    except UnicodeDecodeError:
        expected = None
    try:
        assert decode(text, LIMITS) == expected
    except RequestError:
        assert expected is None or len(text) > 50 or not expected.strip()


@given(st.lists(st.integers(0, 2 * _CHUNK_BYTES), max_size=12))
def test_chunks_are_the_batch(sizes: list[int]) -> None:
    """Chunks hold every text once and in order, and are small unless one text is large."""
    texts = [b"x" * size for size in sizes]
    chunks = list(_chunks(texts, len, _CHUNK_BYTES))
    assert [text for _, chunk in chunks for text in chunk] == texts
    assert [first for first, _ in chunks] == [sum(len(c) for _, c in chunks[:n]) for n in range(len(chunks))]
    assert all(len(chunk) == 1 or sum(map(len, chunk)) <= _CHUNK_BYTES for _, chunk in chunks)


def test_limits_name_numbers() -> None:
    """A refusal tells what was there and what is allowed."""
    with pytest.raises(RequestError, match="4 texts, the limit max_batch_items is 3"):
        check_batch([b""] * 4, LIMITS)
    with pytest.raises(RequestError, match="102 text bytes, the limit max_batch_bytes is 100"):
        check_batch([b"x" * 51] * 2, LIMITS)
    with pytest.raises(RequestError, match="3 entries, the limit max_query_texts is 2"):
        check_query(["a"] * 3, LIMITS)
    assert check_query(["é", "ab"], LIMITS) == [2, 2]
