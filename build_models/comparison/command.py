"""The command `compare`; torch and matplotlib are imported only once it runs."""

import tempfile
from pathlib import Path
from typing import Any

import click

from build_models.comparison.config import QUERIES, QUERY_TOKENS, CompareConfig, ReferenceSize
from build_models.config import KNOWN_ITEM_DOCUMENTS
from build_models.errors import BuildError
from build_models.exits import exits
from build_models.sources import DEFAULT_MODEL


@click.command()
@click.argument("bundles", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="BUNDLE…")
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="DIR|HUB_ID",
    help="The model that the bundles were built from: the rows PyTorch FP32 and ONNX FP32. May be given once "
    f"for each task. Without it: the packaged {DEFAULT_MODEL}, if that is what the bundles name.",
)
@click.option(
    "--eval-data",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder with corpus.parquet, queries.parquet and qrels.parquet, as `build` reads them, or for "
    "taggers with test.parquet (tokens, ner_tags). May be given again. "
    f"Without it, {KNOWN_ITEM_DOCUMENTS} docstrings of Python's standard library; taggers need it.",
)
@click.option(
    "--eval-documents", default=0, help="Documents of each set at most, judged ones always kept; 0: all."
)
@click.option("--eval-queries", default=0, help="Queries, or sentences, of each set at most; 0: all.")
@click.option(
    "--reference-size",
    default=str(ReferenceSize.NONE),
    type=click.Choice([str(size) for size in ReferenceSize]),
    help="Adds a table of a model of this size with random weights: size and speed only.",
)
@click.option("--queries", default=QUERIES, help="How many queries are timed.")
@click.option("--tokens", default=QUERY_TOKENS, help="Tokens of each timed query, special ones included.")
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE", help="PNG of the tables to write.")
@click.option(
    "--json", type=click.Path(path_type=Path), metavar="FILE", help="JSON of every figure to write."
)
def compare(reference_size: str, **settings: Any) -> None:
    """Prints PyTorch FP32, ONNX FP32 and bundles beside each other: size, ms per query on one core, quality.

    Quality is nDCG@10 of retrieval, or strict F1 of taggers. Each task has a table of its own.
    """
    try:
        config = CompareConfig(reference_size=ReferenceSize(reference_size), **settings)
    except BuildError as error:
        raise click.UsageError(str(error)) from error
    from build_models.comparison.result import compare as run

    with exits(Path(tempfile.gettempdir())):
        click.echo(run(config).to_markdown())
