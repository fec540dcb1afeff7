"""What pools answer, as callers see it. No wire type, no I/O."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from indexer.client.status import Status
from indexer.errors import ModelMismatchError
from indexer.plan import Model

NO_LIMIT: Final = sys.maxsize  # of a limit that a pool does not tell


@dataclass(frozen=True)
class Pool:
    """A pool as it described itself.

    Attributes:
        model: The model that it serves.
        processes: Compute processes.
        max_text_bytes: Bytes of one text.
        max_query_texts: Texts of one query call.
        max_batch_items: Texts of one batch.
        max_batch_bytes: Bytes of one batch.
        max_stream_bytes: Bytes in flight on one stream.
        max_tokens: Tokens of one text, or of a window of it; what lies behind them is cut.
        max_windows: Windows of one text; what lies behind them is cut.
        prompts: Name to the text that is put in front.
        query_prompt: The text put in front of queries where no prompt is named.
        document_prompt: The text put in front of documents where no prompt is named.
        pooling: How tokens become one vector.
        recipe: How the weights are stored, for example "int8-dynamic".
        generation: Counts the models that this server has taken over; 1 is the first.
        versions: Of the software that serves, by name.
    """

    model: Model
    processes: int
    max_text_bytes: int = NO_LIMIT
    max_query_texts: int = NO_LIMIT
    max_batch_items: int = NO_LIMIT
    max_batch_bytes: int = NO_LIMIT
    max_stream_bytes: int = NO_LIMIT
    max_tokens: int = NO_LIMIT
    max_windows: int = NO_LIMIT
    prompts: Mapping[str, str] = field(default_factory=dict)
    query_prompt: str = ""
    document_prompt: str = ""
    pooling: str = ""
    recipe: str = ""
    generation: int = 1
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """Names the vectors: equal only if every text gets the same vector."""
        return self.model.fingerprint

    @property
    def dim(self) -> int:
        """Values of a vector."""
        return self.model.dim


@dataclass(frozen=True)
class Timing:
    """Where a query's time went in the pool, in seconds.

    Attributes:
        queue: Longest wait of one of the texts for a process.
        tokenize: Tokenizing all of them.
        run: Sum of the model's runs.
    """

    queue: float
    tokenize: float
    run: float


@dataclass(frozen=True)
class Embeddings:
    """The vectors of some texts, all of one model; row i is text i.

    Attributes:
        vectors: float32 `[texts, dim]`.
        token_counts: Tokens that were embedded, int32 `[texts]`.
        truncated: Whether the end of the text is not in its vector, bool `[texts]`.
        windows: Runs that each text was computed in, int32 `[texts]`.
        fingerprint: Model that made them.
        timing: Where the time went.
        target: Address of the pool that answered last.
        request_id: The call's `x-request-id`, to look for in the pool's log.
    """

    vectors: NDArray[np.float32]
    token_counts: NDArray[np.int32]
    truncated: NDArray[np.bool_]
    windows: NDArray[np.int32]
    fingerprint: str
    timing: Timing
    target: str
    request_id: str


def joined(parts: Sequence[Embeddings]) -> Embeddings:
    """Returns the answers of several calls as one; raises ModelMismatchError for two models."""
    first, last = parts[0], parts[-1]
    for part in parts[1:]:
        if part.fingerprint != first.fingerprint:
            raise ModelMismatchError(
                f"worker {first.target} serves model {first.fingerprint[:12]} and worker {part.target} "
                f"{part.fingerprint[:12]}: one result would mix them; ask again"
            )
    if first is last:
        return first
    return Embeddings(
        vectors=np.concatenate([part.vectors for part in parts]),
        token_counts=np.concatenate([part.token_counts for part in parts]),
        truncated=np.concatenate([part.truncated for part in parts]),
        windows=np.concatenate([part.windows for part in parts]),
        fingerprint=first.fingerprint,
        timing=Timing(
            queue=max(part.timing.queue for part in parts),
            tokenize=sum(part.timing.tokenize for part in parts),
            run=sum(part.timing.run for part in parts),
        ),
        target=last.target,
        request_id=last.request_id,
    )


@dataclass(frozen=True)
class Document:
    """What became of one document: a vector, or why there is none.

    Attributes:
        index: Its place in the input, from 0.
        vector: float32 `[dim]`; None when it was refused or failed.
        token_count: Tokens that were embedded.
        truncated: Whether the end of the text is not in the vector.
        windows: Runs that it was computed in; 0 when refused.
        fingerprint: Model that made the vector; "" without one.
        code: OK, or why there is no vector.
        message: The reason for people; "" when OK.
    """

    index: int
    vector: NDArray[np.float32] | None
    token_count: int = 0
    truncated: bool = False
    windows: int = 0
    fingerprint: str = ""
    code: Status = Status.OK
    message: str = ""

    @property
    def ok(self) -> bool:
        """Whether it has a vector."""
        return self.vector is not None


@dataclass(frozen=True)
class Failure:
    """Why the text at a position of a batch has no vector."""

    position: int
    code: Status
    message: str

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


@dataclass(frozen=True)
class Spans:
    """Where the windows of texts lie, where each keeps a vector of its own; each int32 `[vectors]`.

    Attributes:
        starts: Code point of the text where a window starts.
        stops: First code point behind it.
        token_counts: Tokens of the window, special ones included.
    """

    starts: NDArray[np.int32]
    stops: NDArray[np.int32]
    token_counts: NDArray[np.int32]


@dataclass(frozen=True)
class Answer:
    """What a pool answered for one batch.

    Attributes:
        number: The batch's number.
        fingerprint: Model that made the vectors.
        good: Positions in the batch that have a vector, int64 `[good]`, rising.
        vectors: float32 or float16 `[good, dim]`; with `spans` a row for each window, text after text.
        token_counts: int32 `[good]`.
        truncated: bool `[good]`.
        windows: Runs of each, int32 `[good]`.
        failures: Of each text without a vector.
        postponed: Why the pool did not get to some text for now; "" if it answered for good.
        spans: Where the windows lie; None where each text has one vector.
    """

    number: int
    fingerprint: str
    good: NDArray[np.int64]
    vectors: NDArray[np.floating]
    token_counts: NDArray[np.int32]
    truncated: NDArray[np.bool_]
    windows: NDArray[np.int32]
    failures: tuple[Failure, ...] = ()
    postponed: str = ""
    spans: Spans | None = None

    @property
    def rows_each(self) -> NDArray[np.int32]:
        """Rows of `vectors` that each good text has, int32 `[good]`."""
        return np.ones(self.good.size, dtype=np.int32) if self.spans is None else self.windows
