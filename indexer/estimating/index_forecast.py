"""The FAISS index of so many vectors by the rules that a run follows, and what memory both take. Pure."""

from dataclasses import dataclass

from indexer.config import RunConfig
from indexer.embedding.unit import open_bytes
from indexer.errors import ConfigError
from indexer.estimating.build_time import build_seconds, tuning_seconds
from indexer.estimating.forecast import Volume
from indexer.index.index_rule import choose_key, query_ms, sample_size
from indexer.index.memory_rule import Shape, shape_of

# What a run holds for each row and unit. `tests/simulation/driver` measures them.
_SEEN_BYTES = 24  # of a text: content hash and row id, so that each is embedded once (`embedding.reuse`)
_ID_BYTES = 8  # of a row while the plan is made: the hash of its document id (`inputs.duplicates`)
_UNIT_BYTES = 1_200  # of a unit: its place in the plan and its receipt
_PROCESS_BYTES = 200 << 20  # Python with pyarrow, FAISS and gRPC, and buffers that do not grow
_GROWTH = 2  # lists and arrays grow by doubling while an index is built (`index.faiss_build`)


@dataclass(frozen=True)
class IndexForecast:
    """The FAISS index; what is None cannot be told for a key that `auto` never takes.

    Attributes:
        key: Factory string.
        reason: Why it was taken.
        bytes: Of its file, and in memory while it is searched.
        training: Vectors that it learns from.
        build_bytes: Memory that building takes where it is done in one piece.
        seconds: Building and tuning, on one machine.
        query_ms: Of a search on one core.
        run_bytes: Memory of the run that embeds.
    """

    key: str
    reason: str
    bytes: int | None
    training: int | None
    build_bytes: int | None
    seconds: float
    query_ms: float | None
    run_bytes: int


def forecast_index(config: RunConfig, much: Volume, dim: int, cores: int, flops: float) -> IndexForecast:
    """Returns the index that a run would build.

    Args:
        config: Of the run.
        much: What there is to do.
        dim: Values of a vector.
        cores: Of the machine that builds it.
        flops: Operations of a core in a second.

    Raises:
        ConfigError: No kind fits into the memory that is wished.
    """
    run_bytes = _run_bytes(config, much, dim)
    if not much.vectors:
        raise ConfigError("no document would get a vector; there is no index to estimate")
    choice = choose_key(config.index_key, much.vectors, dim, config.wishes)
    shape = shape_of(choice.key)
    if shape is None:
        return IndexForecast(choice.key, choice.reason, None, None, None, 0.0, None, run_bytes)
    size = shape.bytes(much.vectors, dim)
    return IndexForecast(
        key=choice.key,
        reason=choice.reason,
        bytes=size,
        training=sample_size(shape.lists, much.vectors) if shape.lists else 0,
        build_bytes=_build_bytes(shape, much.vectors, dim, size),
        seconds=build_seconds(shape, much.vectors, dim, cores, flops)
        + tuning_seconds(shape, much.vectors, dim, cores, flops, config.wishes),
        query_ms=query_ms(shape, much.vectors, dim, config.wishes),
        run_bytes=run_bytes,
    )


def _build_bytes(shape: Shape, count: int, dim: int, size: int) -> int:
    sample = 4 * dim * sample_size(shape.lists, count) if shape.lists else 0
    return max(_GROWTH * size, 2 * sample)


def _run_bytes(config: RunConfig, much: Volume, dim: int) -> int:
    """Returns the memory of a run: what grows with documents and units, and what is bounded."""
    flow, unit = config.flow, open_bytes(config.plan.unit_rows, dim, config.plan.vector_type)
    flowing = flow.bytes_in_flight + min(flow.unit_memory_bytes, unit * flow.open_units)
    growing = max(_ID_BYTES * much.documents, _SEEN_BYTES * much.documents)
    return _PROCESS_BYTES + flowing + growing + _UNIT_BYTES * much.units
