"""The command line: `python -m build_models build`.

torch is imported only once a command runs: the processes that encode texts import this file too, and
`--help` should not wait for it.
"""

import signal
import sys
from pathlib import Path

import click

from build_models.comparison.command import compare
from build_models.config import KNOWN_ITEM_DOCUMENTS, BuildConfig
from build_models.errors import BuildError
from build_models.exits import INTERRUPTED, exits, fail
from build_models.ner.command import build_tagger, finetune, refuse_options
from build_models.ner.config import MAX_F1_LOSS
from build_models.quality.gate import Gate
from build_models.recipes import AUTO, RECIPES, parse_recipes
from build_models.sources import DEFAULT_MODEL
from worker.bundle import Pooling, Task
from worker.cpu_flags import Cpu

_GATE = Gate()
_TERMINATED = 143  # and by SIGTERM
_RECIPES = "; ".join(f"{recipe.name}: {recipe.summary}" for recipe in RECIPES.values())


@click.group(context_settings={"show_default": True, "max_content_width": 110})
def main() -> None:
    """Turns a transformer into a checked bundle that the worker can serve.

    Exit code: 0 done, 1 failed, 2 wrong usage, 3 quality gate not met.
    """


main.add_command(compare)
main.add_command(finetune)


@main.command()
@click.option(
    "--task",
    type=click.Choice([str(task) for task in Task]),
    default=str(Task.EMBEDDING),
    help="What the model computes. ner: tags of words; the model is a Hugging Face token-classification "
    "folder, and the bundle is for build_models.ner.tagger, not for the worker.",
)
@click.option(
    "--model",
    default=DEFAULT_MODEL,
    metavar="DIR|HUB_ID",
    help="sentence-transformers or Hugging Face folder, or id of a repository of the hub. "
    f"{DEFAULT_MODEL} is taken from its package where that is installed.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of the bundle to write.")
@click.option(
    "--recipes",
    default="fast",
    metavar="auto|fast|NAME,NAME",
    help="Tried in this order; the first that meets the gate is written. auto: all recipes in several forms "
    "are timed on documents as long as yours, and the fastest that meets the gate is written; minutes. "
    f"fast: int8, then int8-token, then fp32-fused. {_RECIPES}.",
)
@click.option(
    "--eval-data",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder with corpus.parquet (doc_id, title, text), queries.parquet (query_id, text) and "
    "qrels.parquet (query_id, doc_id, relevance). Title and text are joined by a newline. "
    "May be given again, and the worst set decides. "
    f"Without it, {KNOWN_ITEM_DOCUMENTS} docstrings of Python's standard library: summary line → body. "
    "For --task ner, which needs one: test.parquet and train.parquet (tokens, ner_tags).",
)
@click.option(
    "--eval-documents", default=0, help="Documents of each set at most, judged ones always kept; 0: all."
)
@click.option("--eval-queries", default=0, help="Queries of each set at most; 0: all.")
@click.option(
    "--min-retention",
    default=_GATE.min_retention,
    help="Share of FP32's nDCG@10 that must be kept on every set, 0 to 1; below it nothing is written.",
)
@click.option(
    "--min-bound",
    default=_GATE.min_bound,
    help="Lower 95 % bound of that share on every set (paired bootstrap over queries), 0 to 1; 0: off. Also "
    "the share to keep where FP32's documents meet the served model's queries, and the reverse.",
)
@click.option(
    "--min-overlap",
    default=_GATE.min_overlap,
    help="Share of a query's ten best that are FP32's ten best too, mean over every set, 0 to 1; 0: off.",
)
@click.option(
    "--min-cosine",
    default=_GATE.min_cosine,
    help="Least mean cosine between served and FP32 vectors of documents, 0 to 1.",
)
@click.option(
    "--max-f1-loss",
    default=MAX_F1_LOSS,
    help="For --task ner: what strict F1 may lose beside FP32 on every test split, absolute, 0 to 1.",
)
@click.option(
    "--pooling",
    type=click.Choice([str(pooling) for pooling in Pooling]),
    help="Overrules the model's own; must be given for a folder that declares none (no modules.json).",
)
@click.option(
    "--normalize/--no-normalize",
    default=None,
    help="Overrules whether vectors have unit length; a folder without modules.json has it.",
)
@click.option("--max-tokens", type=int, help="Overrules the longest input, in tokens with special ones.")
@click.option(
    "--cpu",
    type=click.Choice([str(cpu) for cpu in Cpu]),
    default=str(Cpu.ANY),
    help="CPUs that will serve the bundle. any: quantized weights have 7 bits and give the same vectors "
    "everywhere. vnni: they have 8, and the worker refuses to serve them without VNNI or AMX (x86).",
)
@click.option("--force", is_flag=True, help="Replace a bundle that is already at --out.")
@click.pass_context
def build(
    context: click.Context,
    task: str,
    model: str,
    out: Path,
    recipes: str,
    eval_data: tuple[Path, ...],
    eval_documents: int,
    eval_queries: int,
    min_retention: float,
    min_bound: float,
    min_overlap: float,
    min_cosine: float,
    max_f1_loss: float,
    pooling: str | None,
    normalize: bool | None,
    max_tokens: int | None,
    cpu: str,
    force: bool,
) -> None:
    """Exports a model, quantizes it, measures what that cost, and writes a bundle if it is little enough."""
    refuse_options(context, Task(task))
    if Task(task) is Task.NER:
        build_tagger(model, out, recipes, eval_data, max_f1_loss, max_tokens, Cpu(cpu), force=force)
        return
    try:
        config = BuildConfig(
            model=model,
            out=out,
            recipes=parse_recipes(recipes),
            search=recipes.strip() == AUTO,
            eval_data=eval_data,
            eval_documents=eval_documents,
            eval_queries=eval_queries,
            gate=Gate(min_retention, min_bound, min_cosine, min_overlap),
            pooling=Pooling(pooling) if pooling else None,
            normalize=normalize,
            max_tokens=max_tokens,
            cpu=Cpu(cpu),
            force=force,
        )
    except BuildError as error:
        raise click.UsageError(str(error)) from error
    _run(config)


def _run(config: BuildConfig) -> None:
    from build_models.pipeline import build as run

    with exits(config.out):
        built = run(config)
        click.echo(built.report.to_markdown())
        click.echo(f"{config.out}: {built.manifest.name}, fingerprint {built.manifest.fingerprint[:12]}")


def run_command_line() -> None:
    """Runs the command that `sys.argv` names; every error is one line on stderr."""
    # As Ctrl-C does: so that what is half built is removed on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(_TERMINATED))
    try:
        main.main(standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(error.exit_code)
    except click.ClickException as error:
        fail(error.format_message(), error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        fail("interrupted; nothing was written", INTERRUPTED)


if __name__ == "__main__":
    run_command_line()
