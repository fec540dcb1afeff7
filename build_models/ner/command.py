"""The command `finetune`, and what `build --task ner` does; torch is imported only once they run."""

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from build_models.errors import BuildError
from build_models.exits import INTERRUPTED, exits, fail
from build_models.ner.config import (
    CHECKPOINT_SECONDS,
    MAX_TOKENS,
    Amp,
    FinetuneConfig,
    NerBuildConfig,
)
from build_models.recipes import AUTO, parse_recipes
from build_models.sources import DEFAULT_MODEL
from worker.bundle import Task
from worker.cpu_flags import Cpu
from worker.cpus import read_cpus

# Options of `build` that belong to the other task.
_NOT_FOR = {
    Task.EMBEDDING: ("max_f1_loss",),
    Task.NER: (
        *("eval_documents", "eval_queries", "min_retention", "min_bound", "min_overlap", "min_cosine"),
        *("pooling", "normalize"),
    ),
}
_DEFAULTS = FinetuneConfig(model=DEFAULT_MODEL, data=Path(), out=Path())


@click.command()
@click.option(
    "--task", default=str(Task.NER), type=click.Choice([str(Task.NER)]), help="What the model is to compute."
)
@click.option(
    "--model",
    default=DEFAULT_MODEL,
    metavar="DIR|HUB_ID",
    help="The weights to begin with; a head of another task is left behind.",
)
@click.option(
    "--data",
    required=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder with train.parquet, validation.parquet and test.parquet (tokens, ner_tags: lists of "
    "strings; tags in IOB2).",
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of the tagger to write.")
@click.option(
    "--amp",
    default=str(Amp.AUTO),
    type=click.Choice([str(choice) for choice in Amp]),
    help="Mixed precision. auto: float16 with a gradient scaler on CUDA; bfloat16 on a CPU where a few timed "
    "steps show that it is faster.",
)
@click.option("--epochs", default=_DEFAULTS.epochs, help="Passes; the best by validation F1 is kept.")
@click.option("--batch", default=_DEFAULTS.batch, help="Sentences of one step.")
@click.option("--learning-rate", default=_DEFAULTS.learning_rate, help="Its peak, after a linear rise.")
@click.option(
    "--max-tokens",
    type=int,
    help="Longest window in tokens; longer sentences are cut between words. "
    f"Without it: what the model reads, {MAX_TOKENS} at most.",
)
@click.option("--seed", default=_DEFAULTS.seed, help="Equal seeds and threads give equal weights on a CPU.")
@click.option("--threads", type=int, help="CPU threads. Without it: one for each usable CPU.")
@click.option(
    "--checkpoint-seconds", default=CHECKPOINT_SECONDS, help="Least time between two checkpoints, seconds."
)
@click.option("--resume", is_flag=True, help="Go on where a run to the same --out was stopped.")
@click.option("--force", is_flag=True, help="Replace a tagger or an unfinished run that is already there.")
def finetune(task: str, amp: str, threads: int | None, **settings: Any) -> None:
    """Trains a tagger of words, and writes it as a Hugging Face folder that `build --task ner` takes."""
    del task  # there is one
    count = read_cpus().usable if threads is None else threads
    try:
        config = FinetuneConfig(amp=Amp(amp), threads=count, **settings)
    except BuildError as error:
        raise click.UsageError(str(error)) from error
    from build_models.ner.finetune import finetune as run

    with exits(config.out):
        try:
            report = run(config)
        except KeyboardInterrupt:
            fail(f"interrupted; give --resume to go on with the training of {config.out}", INTERRUPTED)
        click.echo(report.to_markdown())
        click.echo(f"{config.out}: strict F1 {report.test.overall.f1:.4f} on {report.data}'s test split")


def refuse_options(context: click.Context, task: Task) -> None:
    """Refuses options of `build` that say nothing of a task.

    Raises:
        click.UsageError: One was given.
    """
    for name in _NOT_FOR[task]:
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            option = "--" + name.replace("_", "-")
            raise click.UsageError(f"{option} says nothing of --task {task}; leave it out")


def build_tagger(
    model: str,
    out: Path,
    recipes: str,
    eval_data: tuple[Path, ...],
    max_f1_loss: float,
    max_tokens: int | None,
    cpu: Cpu,
    *,
    force: bool,
) -> None:
    """Does what `build --task ner` asks for; the options are those of `build`."""
    try:
        config = NerBuildConfig(
            model=model,
            out=out,
            recipes=parse_recipes(recipes),
            search=recipes.strip() == AUTO,
            eval_data=eval_data,
            max_f1_loss=max_f1_loss,
            max_tokens=max_tokens,
            cpu=cpu,
            force=force,
        )
    except BuildError as error:
        raise click.UsageError(str(error)) from error
    from build_models.ner.pipeline import build as run

    with exits(config.out):
        built = run(config)
        click.echo(built.report.to_markdown())
        click.echo(f"{config.out}: {built.manifest.name}, fingerprint {built.manifest.fingerprint[:12]}")
