"""From what a caller sent to tokens, or to a refusal that names the text and the limit.

Queries, bulk work and callers who want the tokens alone have a thread each, so that a query never waits
behind a batch, nor a batch behind who only looks at tokens. A long query is tokenized with the bulk work: the
next one shall not wait for it longer than for a run. A short one is tokenized on the event loop at once: the
way to a thread and back takes longer than that.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from worker.bundle import Manifest
from worker.errors import RequestError, TokenizerError, WorkerError
from worker.settings.config import Limits
from worker.tokenizer import Tokenizer, Tokens
from worker.vectors import VectorType
from worker.windows import Chunking, Windows

# Characters of a query that the event loop tokenizes itself; some 250 tokens at 4 µs each hold it for 1 ms,
# about what one RPC takes of it anyway.
_SHORT_QUERY_CHARACTERS = 1024
# Characters of a query that are tokenized between others; some 4,000 tokens at 4 µs each are 16 ms, less than
# the longest run. Arbitrary.
_LONG_QUERY_CHARACTERS = 16 * 1024

# Threads that tokenize.
THREADS = 3

_T = TypeVar("_T")


@dataclass(frozen=True)
class Options:
    """How a caller wants its texts embedded.

    Attributes:
        vector_type: How the values travel.
        dimensions: Leading dimensions to keep; 0 for all.
        prompt: Text put in front of each text.
        reject_long: Whether a text that would be cut is refused instead.
        keep_end: Whether the beginning of a long text is cut instead of its end, the prompt with it; without
            windows.
        chunking: How a long text is cut into windows; None for no windows.
        exact: Whether no text may share a tensor with another.
    """

    vector_type: VectorType = VectorType.FLOAT32
    dimensions: int = 0
    prompt: str = ""
    reject_long: bool = False
    chunking: Chunking | None = None
    exact: bool = False
    keep_end: bool = False


def find_prompt(manifest: Manifest, name: str | None, default: str) -> str:
    """Returns the text of a prompt; None asks for the default's, "" for no prompt.

    Raises:
        RequestError: The model has no prompt of that name.
    """
    wanted = default if name is None else name
    if not wanted:
        return ""
    if wanted not in manifest.prompts:
        known = ", ".join(sorted(manifest.prompts)) or "none"
        raise RequestError(f"options.prompt_name is {wanted[:80]!r}, the model's prompts are: {known}")
    return manifest.prompts[wanted]


def check_dimensions(manifest: Manifest, dimensions: int) -> int:
    """Returns the dimensions asked for.

    Raises:
        RequestError: The model's vectors are shorter.
    """
    if dimensions > manifest.dim:
        raise RequestError(f"options.dimensions is {dimensions}, the model's vectors have {manifest.dim}")
    return dimensions


def check_query(texts: Sequence[str], limits: Limits) -> list[int]:
    """Returns the UTF-8 bytes of each text of a query.

    Raises:
        RequestError: No text, too many, or one that is empty or too large.
    """
    if not texts:
        raise RequestError("texts is empty; send at least one")
    if len(texts) > limits.max_query_texts:
        raise RequestError(
            f"texts has {len(texts)} entries, the limit max_query_texts is {limits.max_query_texts}"
        )
    sizes = [len(text.encode()) for text in texts]
    for index, (text, size) in enumerate(zip(texts, sizes, strict=True)):
        if size > limits.max_text_bytes:
            raise RequestError(
                f"texts[{index}] has {size} bytes, the limit max_text_bytes is {limits.max_text_bytes}"
            )
        if not text.strip():
            raise RequestError(f"texts[{index}] is empty")
    if sum(sizes) > limits.max_query_bytes_in_flight:
        raise RequestError(
            f"texts have {sum(sizes)} bytes in all, the limit max_query_bytes_in_flight is "
            f"{limits.max_query_bytes_in_flight}"
        )
    return sizes


def check_text(text: str, limits: Limits) -> int:
    """Returns the UTF-8 bytes of a text whose tokens are wanted.

    Raises:
        RequestError: It has none, or too many.
    """
    size = len(text.encode())
    if not size:
        raise RequestError("the text is empty")
    if size > limits.max_text_bytes:
        raise RequestError(f"the text has {size} bytes, the limit max_text_bytes is {limits.max_text_bytes}")
    return size


def check_batch(texts: Sequence[bytes], limits: Limits) -> int:
    """Returns the bytes of a bulk message's texts.

    Raises:
        RequestError: Too many texts, or too many bytes in all.
    """
    if len(texts) > limits.max_batch_items:
        raise RequestError(
            f"the batch has {len(texts)} texts, the limit max_batch_items is {limits.max_batch_items}"
        )
    size = sum(map(len, texts))
    if size > limits.max_batch_bytes:
        raise RequestError(
            f"the batch has {size} text bytes, the limit max_batch_bytes is {limits.max_batch_bytes}"
        )
    return size


def decode(text: bytes, limits: Limits) -> str:
    """Decodes one document.

    Raises:
        RequestError: It is empty, too large or not UTF-8.
    """
    if len(text) > limits.max_text_bytes:
        raise RequestError(
            f"the text has {len(text)} bytes, the limit max_text_bytes is {limits.max_text_bytes}"
        )
    try:
        decoded = text.decode()
    except UnicodeDecodeError as error:
        raise RequestError(f"the text is not UTF-8: {error.reason} at byte {error.start}") from None
    if not decoded.strip():
        raise RequestError("the text is empty")
    return decoded


class Intake:
    """Tokenizes, off the event loop but for short queries."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._query_thread = ThreadPoolExecutor(1, "tokenize-query")
        self._bulk_thread = ThreadPoolExecutor(1, "tokenize-bulk")
        self._tokens_thread = ThreadPoolExecutor(1, "tokenize-only")

    async def query(self, tokenizer: Tokenizer, texts: Sequence[str], options: Options) -> list[Windows]:
        """Returns the runs of each text of a checked query.

        Raises:
            RequestError: A text has no token, or more than the model reads where the caller forbids a cut.
            TokenizerError: The tokenizer failed on a text.
        """
        characters = sum(map(len, texts))
        if characters <= _SHORT_QUERY_CHARACTERS:
            outcomes = _encode(tokenizer, texts, options)
        else:
            is_long = characters > _LONG_QUERY_CHARACTERS
            thread = self._bulk_thread if is_long else self._query_thread
            outcomes = await _in(thread, lambda: _encode(tokenizer, texts, options))
        found = []
        for index, outcome in enumerate(outcomes):
            if isinstance(outcome, WorkerError):
                raise type(outcome)(f"texts[{index}]: {outcome}")
            found.append(outcome)
        return found

    async def documents(
        self, tokenizer: Tokenizer, texts: Sequence[bytes], options: Options
    ) -> list[Windows | WorkerError]:
        """Returns the runs of each document, or why it has none."""
        return await _in(self._bulk_thread, lambda: self._decode_and_encode(tokenizer, texts, options))

    async def tokens(self, characters: int, tell: Callable[[], _T]) -> _T:
        """Returns what `tell` makes of the tokens of a text of so many characters; short ones at once."""
        if characters <= _SHORT_QUERY_CHARACTERS:
            return tell()
        return await _in(self._tokens_thread, tell)

    def close(self) -> None:
        """Ends the threads; what they do is finished first."""
        for thread in (self._query_thread, self._bulk_thread, self._tokens_thread):
            thread.shutdown()

    def _decode_and_encode(
        self, tokenizer: Tokenizer, texts: Sequence[bytes], options: Options
    ) -> list[Windows | WorkerError]:
        decoded: dict[int, str] = {}
        refused: dict[int, WorkerError] = {}
        for row, text in enumerate(texts):
            try:
                decoded[row] = decode(text, self._limits)
            except RequestError as error:
                refused[row] = error
        encoded = dict(zip(decoded, _encode(tokenizer, list(decoded.values()), options), strict=True))
        return [refused[row] if row in refused else encoded[row] for row in range(len(texts))]


def _encode(tokenizer: Tokenizer, texts: Sequence[str], options: Options) -> list[Windows | WorkerError]:
    prompted = [options.prompt + text for text in texts] if options.prompt else texts
    try:
        if options.chunking is None:
            found = [_one_run(tokens) for tokens in tokenizer.encode(prompted, keep_end=options.keep_end)]
        else:
            found = tokenizer.windows(prompted, options.chunking)
        return [_judge(windows, tokenizer, options) for windows in found]
    except TokenizerError as error:
        if len(texts) == 1:
            return [error]
    return [outcome for text in texts for outcome in _encode(tokenizer, [text], options)]


def _one_run(tokens: Tokens) -> Windows | None:
    if tokens.empty:
        return None
    return Windows((tokens.ids,), (1,), token_count=len(tokens.ids), truncated=tokens.truncated)


def _judge(windows: Windows | None, tokenizer: Tokenizer, options: Options) -> Windows | WorkerError:
    if windows is None:
        return RequestError("the text is empty: the tokenizer finds nothing in it")
    if windows.truncated and options.reject_long:
        if (chunking := options.chunking) is None:
            found = f"has more than {tokenizer.max_tokens} tokens"
        else:
            found = f"does not fit into {chunking.max_windows} windows of {chunking.window_tokens} tokens"
        return RequestError(f"the text {found}, and this request forbids to cut it")
    return windows.behind(options.prompt)


async def _in(thread: ThreadPoolExecutor, work: Callable[[], _T]) -> _T:
    return await asyncio.get_running_loop().run_in_executor(thread, work)
