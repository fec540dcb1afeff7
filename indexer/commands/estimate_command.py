"""`estimate`: a minute of measuring, and what an index will cost in time, machines, memory and disk."""

import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from indexer.commands.pool_options import access_of, open_pool, pool_options
from indexer.commands.recall_command import wish_options
from indexer.config import AUTO, OnError, PlanConfig, RunConfig, VectorType, Wishes
from indexer.errors import ConfigError
from indexer.estimating import table
from indexer.estimating.estimate import Question, run_estimate
from indexer.index.memory_rule import parse_bytes
from indexer.store.durable import write_durable


@click.command()
@click.option(
    "--input",
    "inputs",
    multiple=True,
    required=True,
    help="Parquet file, folder or glob, local or a URI such as s3://bucket/folder; may be repeated.",
)
@pool_options
@click.option("--seconds", default=Question.seconds, help="Seconds to measure.")
@click.option("--documents", type=int, help="Documents that there will be.  [default: rows of the inputs]")
@click.option(
    "--machines", default=",".join(map(str, Question.machines)), help="Numbers of machines, with commas."
)
@click.option(
    "--cores-per-machine", type=int, help="Cores, a process each.  [default: as the pool that is measured]"
)
@click.option("--within", type=float, help="Hours: say how many machines are done in them.")
@click.option("--price-per-core-hour", type=float, help="In any currency: say what it costs.")
@click.option("--queries-per-second", type=float, help="Say what serving so many searches takes.")
@click.option("--id-column", default=PlanConfig.id_column, help="Column of ids: text or whole numbers.")
@click.option(
    "--text-columns", default=",".join(PlanConfig.text_columns), help="Columns of text, joined by a newline."
)
@click.option("--index-key", default=AUTO, help="FAISS factory string, or auto, as run takes it.")
@click.option(
    "--max-index-memory-usage", help="Memory that the FAISS index may take, as 4GB or 512MiB.  [default: any]"
)
@wish_options
@click.option(
    "--vector-type",
    type=click.Choice([kind.value for kind in VectorType]),
    default="float32",
    help="As stored.",
)
@click.option("--unit-rows", default=PlanConfig.unit_rows, help="Rows that are committed together.")
@click.option(
    "--chunk-tokens",
    default=PlanConfig.chunk_tokens,
    help="A document of more tokens has a vector for each chunk of so many; 0: its end is cut.",
)
@click.option(
    "--chunk-overlap",
    default=PlanConfig.chunk_overlap,
    help="Tokens of a chunk that are in the one before, too.",
)
@click.option(
    "--on-error",
    type=click.Choice([kind.value for kind in OnError]),
    default=OnError.STOP.value,
    help="Bad files and row groups: stop, or leave them out.",
)
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path), help="Write all figures as JSON; -: print."
)
def estimate(worker: str | None, bundle: Path | None, json_file: Path | None, **options: Any) -> None:
    """Measure a pool with a sample of the documents, and say what an index of all of them will take.

    Nothing is kept of what it embeds.
    """
    access = access_of(options)
    question = _question(options)
    with open_pool(worker, bundle, access) as targets:
        found = run_estimate(question, targets, access, Console(stderr=True))
    text = json.dumps(table.as_json(found), indent=1, ensure_ascii=False) + "\n"
    if json_file == Path("-"):
        click.echo(text, nl=False)
        return
    if json_file is not None:
        write_durable(json_file, text.encode())
    for line in table.lines(found):
        click.echo(line)


def _question(options: dict[str, Any]) -> Question:
    memory = options["max_index_memory_usage"]
    plan = PlanConfig(
        id_column=options["id_column"],
        text_columns=tuple(name.strip() for name in options["text_columns"].split(",")),
        vector_type=VectorType(options["vector_type"]),
        unit_rows=options["unit_rows"],
        chunk_tokens=options["chunk_tokens"],
        chunk_overlap=options["chunk_overlap"],
    )
    wishes = Wishes(
        None if memory is None else parse_bytes(memory), options["target_recall"], options["max_query_ms"]
    )
    return Question(
        run=RunConfig(
            inputs=options["inputs"],
            output=Path(),
            index_key=options["index_key"],
            wishes=wishes,
            plan=plan,
            on_error=OnError(options["on_error"]),
        ),
        seconds=options["seconds"],
        documents=options["documents"],
        machines=_numbers(options["machines"]),
        cores_each=options["cores_per_machine"],
        within_hours=options["within"],
        core_hour_price=options["price_per_core_hour"],
        queries_per_second=options["queries_per_second"],
    )


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigError(f"--machines is '{text}', wanted whole numbers with commas, as 1,2,4,8") from error
