"""`estimate`: a minute of measuring, and what an index will cost in time, machines, memory and disk."""

import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from indexer.commands.plan_options import input_option, plan_of, plan_options, wishes_of
from indexer.commands.pool_options import access_of, open_pool, pool_options
from indexer.commands.recall_command import wish_options
from indexer.config import AUTO, OnError, RunConfig
from indexer.errors import ConfigError
from indexer.estimating import table
from indexer.estimating.estimate import Question, run_estimate
from indexer.store.durable import write_durable


@click.command()
@input_option
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
@click.option("--index-key", default=AUTO, help="FAISS factory string, or auto, as run takes it.")
@wish_options
@click.option(
    "--on-error",
    type=click.Choice([kind.value for kind in OnError]),
    default=OnError.STOP.value,
    help="Bad files and row groups: stop, or leave them out.",
)
@plan_options
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
    return Question(
        run=RunConfig(
            inputs=options["inputs"],
            output=Path(),
            index_key=options["index_key"],
            wishes=wishes_of(options),
            plan=plan_of(options),
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
