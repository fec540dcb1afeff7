"""The command line: `python -m indexer run`, `search`, `verify` and `recall`.

Errors are one line on stderr. Exit code 0: done; 1: failed; 2: wrong usage; 128 + number: a signal
stopped it.
"""

import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import click
from rich.console import Console

from indexer.client import Access
from indexer.commands.pool_options import access_of, open_pool, pool_options
from indexer.commands.recall_command import recall, wish_options
from indexer.commands.report import hits_as_text, query_lines, read_queries, summary_lines
from indexer.config import AUTO, FlowConfig, PlanConfig, RunConfig, VectorType, Wishes
from indexer.errors import ConfigError, IndexerError, StoppedError, StoreError
from indexer.index.memory_rule import parse_bytes
from indexer.operations.pipeline import reach, run_index
from indexer.operations.reembed import check_sample
from indexer.operations.verify import verify_index
from indexer.search.searcher import Searcher

_MIB = 1 << 20


@click.group(context_settings={"show_default": True})
@click.version_option(package_name="embedpool")
def cli() -> None:
    """Embed Parquet documents with a pool of workers, and search them."""


@cli.command()
@click.option(
    "--input", "inputs", multiple=True, required=True, help="Parquet file or glob; may be repeated."
)
@click.option("--output", type=click.Path(path_type=Path), required=True, help="Folder of the index.")
@pool_options
@click.option("--id-column", default=PlanConfig.id_column, help="Column of ids: text or whole numbers.")
@click.option(
    "--text-columns", default=",".join(PlanConfig.text_columns), help="Columns of text, joined by a newline."
)
@click.option(
    "--index-key",
    default=AUTO,
    help="FAISS factory string; auto: exact up to 10,000 vectors, then what suits the wishes below.",
)
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
@click.option("--limit", type=int, help="Rows to index, counted over all inputs.  [default: all]")
@click.option("--unit-rows", default=PlanConfig.unit_rows, help="Rows that are committed together.")
@click.option("--retry-seconds", default=FlowConfig.retry_seconds, help="Seconds a pool may be away.")
@click.option(
    "--mib-in-flight", default=FlowConfig.bytes_in_flight // _MIB, help="MiB of text under way at most."
)
def run(worker: str | None, bundle: Path | None, **options: Any) -> None:
    """Make an index, or go on with one: the same command after any interruption."""
    access = access_of(options)
    config = RunConfig(
        inputs=options["inputs"],
        output=options["output"],
        index_key=options["index_key"],
        wishes=Wishes(
            memory_bytes=parse_bytes(options["max_index_memory_usage"])
            if options["max_index_memory_usage"] is not None
            else None,
            target_recall=options["target_recall"],
            max_query_ms=options["max_query_ms"],
        ),
        plan=PlanConfig(
            id_column=options["id_column"],
            text_columns=tuple(name.strip() for name in options["text_columns"].split(",")),
            vector_type=VectorType(options["vector_type"]),
            unit_rows=options["unit_rows"],
            limit=options["limit"],
        ),
        flow=FlowConfig(
            # A private pool that is gone does not come back: its processes are replaced, it itself is not.
            retry_seconds=min(options["retry_seconds"], FlowConfig.connect_seconds)
            if bundle
            else options["retry_seconds"],
            bytes_in_flight=options["mib_in_flight"] * _MIB,
        ),
    )
    with open_pool(worker, bundle, access) as targets:
        summary = run_index(config, targets, access, Console(stderr=True))
    for line in summary_lines(config.output, summary):
        click.echo(line)


@cli.command()
@click.argument("query", required=False)
@click.option("--index", type=click.Path(path_type=Path), required=True, help="Folder of the index.")
@pool_options
@click.option("--queries", type=click.Path(path_type=Path), help="One query a line, or .jsonl with 'text'.")
@click.option("-k", default=10, help="Hits for each query.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line for each query.")
@click.option("--mmap", is_flag=True, help="Leave the FAISS index in its file: it opens at once.")
def search(
    query: str | None,
    index: Path,
    worker: str | None,
    bundle: Path | None,
    queries: Path | None,
    k: int,
    as_json: bool,
    mmap: bool,
    **options: Any,
) -> None:
    """Find the documents nearest to QUERY, or to each query of a file."""
    access = access_of(options)
    if (query is None) == (queries is None):
        raise ConfigError("give one of a query and --queries FILE")
    texts = [query] if query is not None else read_queries(queries or Path())
    with (
        open_pool(worker, bundle, access) as targets,
        Searcher(index, targets, access, mapped=mmap) as searcher,
    ):
        for line in searcher.unreached:
            click.echo(f"warning: {line}", err=True)
        for some in query_lines(texts):
            for text, hits in zip(some, searcher.search(some, k), strict=True):
                if as_json:
                    found = [{"rank": hit.rank, "doc_id": hit.doc_id, "score": hit.score} for hit in hits]
                    click.echo(json.dumps({"query": text, "hits": found}, ensure_ascii=False))
                else:
                    click.echo(hits_as_text(text, hits, with_query=queries is not None))


@cli.command()
@click.option("--index", type=click.Path(path_type=Path), required=True, help="Folder of the index.")
@pool_options
@click.option("--sample", default=32, help="Documents to embed again, when a pool is given.")
def verify(index: Path, worker: str | None, bundle: Path | None, sample: int, **options: Any) -> None:
    """Check counts, checksums, ids, vectors and the FAISS index; with a pool, embed a sample again."""
    access = access_of(options)
    if worker is None and bundle is None:
        _verify(index, None, access, sample)
    else:
        with open_pool(worker, bundle, access) as targets:
            _verify(index, targets, access, sample)


def _verify(index: Path, targets: Sequence[str] | None, access: Access, sample: int) -> None:
    more = {}
    if targets is not None:
        pools = reach(targets, access, FlowConfig.connect_seconds, Console(stderr=True))
        more["sample"] = lambda standing: check_sample(standing, pools, access, sample)
    failed = []
    for finding in verify_index(index, more):
        click.echo(f"{'ok  ' if finding.ok else 'FAIL'} {finding.check}: {finding.detail}")
        if not finding.ok:
            failed.append(finding.check)
    if failed:
        raise StoreError(f"{index} is not sound: {', '.join(failed)} failed")


cli.add_command(recall)


def _stop(number: int, _: FrameType | None) -> None:
    raise StoppedError(number)


def main() -> int:
    """Runs the command line and returns the exit code."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    try:
        return cli.main(standalone_mode=False, prog_name="python -m indexer") or 0
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        hint = f"; see '{context.command_path} --help'" if context is not None else ""
        return _fail(error.format_message().rstrip(".") + hint, error.exit_code)
    except ConfigError as error:
        return _fail(str(error), 2)
    except StoppedError as error:
        return _fail(str(error), 128 + error.signal)
    except IndexerError as error:
        return _fail(str(error), 1)
    except BrokenPipeError:
        # Whoever read our output has enough; Python must not try to flush the rest at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _fail(f"{where}{error.strerror or error}; mend that, then run the same command again", 1)


def _fail(message: str, code: int) -> int:
    click.echo("error: " + " ".join(message.split()), err=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
