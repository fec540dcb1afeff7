"""What of the memory for open units is for what. Pure.

Half of it is for units that wait for answers. The other half is for the one that is written: its vectors in
order, then its file, each as large as the unit, which therefore has at most a quarter.
"""

from indexer.config import FlowConfig, PlanConfig
from indexer.embedding.unit import open_bytes
from indexer.errors import ConfigError

_MIB = 1 << 20


def open_limit(flow: FlowConfig) -> int:
    """Returns the bytes that open units may hold together."""
    return flow.unit_memory_bytes // 2


def check_unit_memory(flow: FlowConfig, config: PlanConfig, rows: int, dim: int) -> None:
    """Raises ConfigError for units that do not fit into the memory for them.

    Args:
        flow: The memory.
        config: Rows of a unit, and the type of vectors.
        rows: Rows of the largest input, or of the largest unit.
        dim: Values of a vector.
    """
    held = min(rows, config.unit_rows)
    size, most = open_bytes(held, dim, config.vector_type), flow.unit_memory_bytes // 4
    if size > most:
        fitting = most // open_bytes(1, dim, config.vector_type)
        raise ConfigError(
            f"a unit of {held:,} rows takes {size // _MIB:,} MiB of memory, one may take a quarter of the "
            f"{flow.unit_memory_bytes // _MIB:,} MiB for units: use --unit-rows {fitting} or fewer, or give "
            f"--mib-units {4 * size // _MIB + 1} or more"
        )


def check_growth(flow: FlowConfig, number: int, size: int) -> None:
    """Raises ConfigError when a unit has grown, by its chunks, beyond what one may hold."""
    if size > flow.unit_memory_bytes // 4:
        raise ConfigError(
            f"unit {number} takes {size // _MIB:,} MiB of memory by the chunks of its documents, one may "
            f"take a quarter of the {flow.unit_memory_bytes // _MIB:,} MiB for units: run again with a "
            f"larger --mib-units ({8 * size // _MIB} should do), or make a new index with fewer --unit-rows; "
            "nothing committed is lost"
        )
