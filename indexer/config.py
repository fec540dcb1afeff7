"""Settings of the indexer: made from the command line once, checked once, never changed."""

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from indexer.errors import ConfigError

AUTO = "auto"  # value of index_key: choose by the number of vectors


class VectorType(StrEnum):
    """Type of one value of a stored vector; the value is also numpy's name of the type."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"


class OnError(StrEnum):
    """What bad input does to a run."""

    STOP = "stop"  # nothing is embedded, one line says what is wrong
    SKIP = "skip"  # the bad file, row group or row is counted as rejected, the good rows are indexed


@dataclass(frozen=True)
class PlanConfig:
    """What decides which vectors an index holds; frozen in `plan.json`.

    Attributes:
        id_column: Column with the document's id, of text or whole numbers.
        text_columns: Columns whose non-empty texts are joined by a newline.
        vector_type: Type of the stored values.
        unit_rows: Rows of an input that are committed together.
        limit: Rows to index, counted over all inputs in order; None for all.
        chunk_tokens: Tokens of a chunk, special ones included: each chunk of a long document has a vector of
            its own. 0: one vector a document, its end cut where the model reads no further.
        chunk_overlap: Tokens that a chunk shares with the one before; less than half a chunk.
    """

    id_column: str = "doc_id"
    text_columns: tuple[str, ...] = ("title", "text")
    vector_type: VectorType = VectorType.FLOAT32
    unit_rows: int = 2048
    limit: int | None = None
    chunk_tokens: int = 0
    chunk_overlap: int = 0

    def __post_init__(self) -> None:
        """Checks the fields; raises ConfigError."""
        _at_least("unit rows", self.unit_rows, 1)
        _at_least("chunk tokens", self.chunk_tokens, 0)
        _at_least("chunk overlap", self.chunk_overlap, 0)
        if self.chunk_overlap and 2 * self.chunk_overlap >= self.chunk_tokens:
            raise ConfigError(
                f"chunk overlap is {self.chunk_overlap} tokens, wanted less than half a chunk of "
                f"{self.chunk_tokens}"
            )
        if self.limit is not None:
            _at_least("limit", self.limit, 1)
        if not self.text_columns or not all(self.text_columns):
            raise ConfigError("text columns are empty; name at least one, for example 'title,text'")
        if len(set(self.text_columns)) < len(self.text_columns):
            raise ConfigError(
                f"text columns {','.join(self.text_columns)} name a column twice; name each once"
            )
        if not self.id_column:
            raise ConfigError("the id column has no name; name one, for example 'doc_id'")


@dataclass(frozen=True)
class FlowConfig:
    """How documents flow to the pools; changes no result.

    Attributes:
        bytes_in_flight: Bytes of text held between reader and pools, over all pools.
        stream_bytes_in_flight: Bytes of text sent to one pool and not answered.
        batch_items: Texts in a batch at most. With the window of `dispatch` it keeps every process
            busy and yet leaves little work to repeat when a pool goes away.
        batch_bytes: Bytes of text in a batch at most, unless one text alone is larger.
        open_units: Units being read or embedded at once.
        unit_memory_bytes: Memory for what units under way hold: vectors, ids, hashes, and the file of the one
            that is written. A unit alone may take a quarter.
        retry_seconds: How long a pool may be away before it is given up.
        connect_seconds: How long a pool may take to answer the first time.
        answer_seconds: Silence of a pool that owes answers, after which the connection is made anew.
        echo_seconds: Silence of a pool that owes answers, after which it is asked, beside the stream, whether
            it is there at all; it has twice as long to say so. Where a network is cut nothing else tells for
            minutes.
        refresh_seconds: Until a name (`dns:///NAME:PORT`) is looked up again; at once when a pool fails.
    """

    bytes_in_flight: int = 32 << 20
    stream_bytes_in_flight: int = 8 << 20
    batch_items: int = 64
    batch_bytes: int = 256 << 10
    open_units: int = 8
    unit_memory_bytes: int = 256 << 20
    retry_seconds: float = 120.0
    connect_seconds: float = 10.0
    answer_seconds: float = 300.0
    echo_seconds: float = 3.0
    refresh_seconds: float = 10.0

    def __post_init__(self) -> None:
        """Checks the fields; raises ConfigError."""
        for name in (
            "bytes_in_flight",
            "stream_bytes_in_flight",
            "batch_items",
            "batch_bytes",
            "open_units",
            "unit_memory_bytes",
        ):
            _at_least(name.replace("_", " "), getattr(self, name), 1)
        for name in ("retry_seconds", "connect_seconds", "answer_seconds"):
            _at_least(name.replace("_", " "), getattr(self, name), 0)
        for name in ("echo_seconds", "refresh_seconds"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name.replace('_', ' ')} is {getattr(self, name)}, wanted above 0")


@dataclass(frozen=True)
class Wishes:
    """What is asked of the FAISS index and its searches; None: nothing.

    Attributes:
        memory_bytes: Bytes of memory that the index may take while it is searched.
        target_recall: Share of the true ten nearest that searches should find, above 0 and up to 1.
        max_query_ms: Milliseconds on one core within which 99 of 100 searches should end.
        build_memory_bytes: Bytes of memory that building it may take, of `--max-build-memory`; None for half
            of what this process may use (`index.machine.usable_memory`). Larger indexes are built in pieces.
    """

    memory_bytes: int | None = None
    target_recall: float | None = None
    max_query_ms: float | None = None
    build_memory_bytes: int | None = None

    def __post_init__(self) -> None:
        """Checks the fields; raises ConfigError."""
        if self.memory_bytes is not None:
            _at_least("max index memory usage", self.memory_bytes, 1)
        if self.build_memory_bytes is not None:
            _at_least("max build memory", self.build_memory_bytes, 1)
        if self.target_recall is not None and not 0 < self.target_recall <= 1:
            raise ConfigError(f"target recall is {self.target_recall}, wanted above 0 and up to 1")
        if self.max_query_ms is not None and not self.max_query_ms > 0:
            raise ConfigError(f"max query ms is {self.max_query_ms}, wanted above 0")

    @property
    def tuned(self) -> bool:
        """Whether the search setting is to be chosen by measurement."""
        return self.target_recall is not None or self.max_query_ms is not None


@dataclass(frozen=True)
class RunConfig:
    """Everything that `run` does, apart from where the pools are.

    Attributes:
        inputs: Paths or globs of Parquet files.
        output: Folder of the index.
        index_key: A FAISS factory string, or `auto`.
        wishes: What is asked of the FAISS index.
        plan: What the index holds.
        flow: How documents flow.
        on_error: What bad input does.
        new_model: Build an index of the pool's model beside that of another model, and swap when it is ready.
    """

    inputs: tuple[str, ...]
    output: Path
    index_key: str = AUTO
    wishes: Wishes = field(default_factory=Wishes)
    plan: PlanConfig = field(default_factory=PlanConfig)
    flow: FlowConfig = field(default_factory=FlowConfig)
    on_error: OnError = OnError.STOP
    new_model: bool = False

    def __post_init__(self) -> None:
        """Checks the fields; raises ConfigError."""
        if not self.inputs:
            raise ConfigError("no input; name a Parquet file or a glob with --input")
        if not self.index_key:
            raise ConfigError(
                "the index key is empty; use 'auto' or a FAISS factory string such as 'IVF256,Flat'"
            )


def _at_least(name: str, value: float, least: int) -> None:
    if value < least:
        raise ConfigError(f"{name} is {value}, wanted at least {least}")
