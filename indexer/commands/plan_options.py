"""What `run` makes and `estimate` foretells: the options that both take."""

from collections.abc import Callable, Mapping
from typing import Any

import click

from indexer.config import PlanConfig, VectorType, Wishes
from indexer.index.memory_rule import parse_bytes

Command = Callable[..., None]

input_option = click.option(
    "--input",
    "inputs",
    multiple=True,
    required=True,
    help="Parquet file, folder or glob, local or a URI such as s3://bucket/folder; may be repeated.",
)
_OPTIONS = (
    click.option("--id-column", default=PlanConfig.id_column, help="Column of ids: text or whole numbers."),
    click.option(
        "--text-columns",
        default=",".join(PlanConfig.text_columns),
        help="Columns of text, joined by a newline.",
    ),
    click.option(
        "--max-index-memory-usage",
        help="Memory that the FAISS index may take, as 4GB or 512MiB.  [default: any]",
    ),
    click.option(
        "--vector-type",
        type=click.Choice([kind.value for kind in VectorType]),
        default=PlanConfig.vector_type.value,
        help="As stored.",
    ),
    click.option("--unit-rows", default=PlanConfig.unit_rows, help="Rows that are committed together."),
    click.option(
        "--chunk-tokens",
        default=PlanConfig.chunk_tokens,
        help="A document of more tokens has a vector for each chunk of so many; 0: its end is cut.",
    ),
    click.option(
        "--chunk-overlap",
        default=PlanConfig.chunk_overlap,
        help="Tokens of a chunk that are in the one before, too.",
    ),
)


def plan_options(command: Command) -> Command:
    """Adds to a command what `plan_of` takes, and a limit of memory."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def plan_of(options: Mapping[str, Any], limit: int | None = None) -> PlanConfig:
    """Returns what an index is to hold; raises ConfigError."""
    return PlanConfig(
        id_column=options["id_column"],
        text_columns=tuple(name.strip() for name in options["text_columns"].split(",")),
        vector_type=VectorType(options["vector_type"]),
        unit_rows=options["unit_rows"],
        limit=limit,
        chunk_tokens=options["chunk_tokens"],
        chunk_overlap=options["chunk_overlap"],
    )


def wishes_of(options: Mapping[str, Any]) -> Wishes:
    """Returns what is asked of the FAISS index; raises ConfigError."""
    memory, building = (
        None if options.get(name) is None else parse_bytes(options[name])
        for name in ("max_index_memory_usage", "max_build_memory")
    )
    return Wishes(memory, options["target_recall"], options["max_query_ms"], building)
