"""The whole road in one command: model → bundle → pool → index → answers.

Everything is real: each step runs the command that a user would run. A second run finds what the first
one made in `.demo/` and reuses it. Nothing is left running: the pool ends with this process, however it ends.
"""

import json
import os
import select
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table
from rich.text import Text

from examples.docstring_corpus import DOCUMENTS, write_corpus
from indexer.client import Client
from indexer.errors import IndexerError

HOME = Path(".demo")
BUNDLE = HOME / "bundle"
CORPUS = HOME / "docstrings.parquet"
INDEX = HOME / "index"
FIGURES = HOME / "figures.json"
POOL_LOG = HOME / "worker.log"

QUESTIONS = (
    "the middle value of a list of numbers",
    "run a command and get its output",
    "how do I know if an IP address is private",
    "which words are spelled almost like this one",
    "call a function at a later time in another thread",
)
HITS = 3
READY_SECONDS = 120.0  # loading a model takes a second or two; more means that something is wrong
STOP_SECONDS = 40.0
INTERRUPTED = 130  # exit code of a command that Ctrl-C ended
QUERY_ROUNDS = 20  # of all questions; the median of 100 requests is steady

console = Console(highlight=False, width=None if sys.stdout.isatty() else 100)


class DemoError(Exception):
    """A step failed; the message is one line for the person who watches."""


def step(number: int, title: str, note: str = "") -> None:
    """Prints the headline of a step."""
    console.print()
    console.print(Text.assemble((f" {number} ", "bold reverse"), (f" {title} ", "bold"), (note, "dim")))


def command(module: str, *arguments: str, capture: bool = False) -> str:
    """Runs one of embedpool's commands and returns its stdout if captured; its progress shows as it comes."""
    shown = " ".join(f'"{word}"' if " " in word else word for word in arguments)
    console.print(Text(f"   $ python -m {module} {shown}", "cyan"), soft_wrap=True)
    with subprocess.Popen(
        [sys.executable, "-m", module, *arguments], stdout=subprocess.PIPE if capture else None, text=True
    ) as child:
        try:
            output, _ = child.communicate()
        except KeyboardInterrupt:
            _end(child)
            raise
    if child.returncode in (INTERRUPTED, -signal.SIGINT):
        raise KeyboardInterrupt
    if child.returncode != 0:
        raise DemoError(f"'python -m {module} {arguments[0]}' ended with exit code {child.returncode}")
    return output or ""


def _end(child: "subprocess.Popen[str]") -> None:
    """Waits for a child that saw Ctrl-C too, and ends it if it did not."""
    for act in (child.terminate, child.kill):
        try:
            child.wait(STOP_SECONDS / 10)
        except subprocess.TimeoutExpired:
            act()


def build_bundle() -> None:
    """Makes the INT8 bundle from the packaged model, unless a complete one is there."""
    if (BUNDLE / "manifest.json").exists():  # written last, so its presence means complete
        step(1, "Model", f"reusing {BUNDLE}")
        return
    step(1, "Model", "all-MiniLM-L6-v2 → checked INT8 graph; about a minute")
    command("build_models", "build", "--out", str(BUNDLE), capture=True)


@contextmanager
def running_pool() -> Iterator[str]:
    """Starts a pool on loopback and yields its address; stops it at the end.

    The pool also ends by itself when this process dies: it holds the other end of its stdin.
    """
    step(2, "Pool", "one pinned process per CPU")
    arguments = ["serve", "--bundle", str(BUNDLE), "--listen", "127.0.0.1:0", "--stop-on-stdin-close"]
    console.print(Text(f"   $ python -m worker {' '.join(arguments)}", "cyan"), soft_wrap=True)
    with POOL_LOG.open("w") as log:
        pool = subprocess.Popen(
            [sys.executable, "-m", "worker", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,  # Ctrl-C is for this process, which then stops the pool
        )
    try:
        address = _wait_until_ready(pool)
        console.print(f"   ready on {address}")
        yield address
    finally:
        _stop(pool)


def _wait_until_ready(pool: "subprocess.Popen[str]") -> str:
    output = cast("IO[str]", pool.stdout)
    readable, _, _ = select.select([output], [], [], READY_SECONDS)
    word, _, address = (output.readline() if readable else "").strip().partition(" ")
    if word != "ready":
        raise DemoError(f"the pool did not start; it says why in {POOL_LOG}")
    return address


def _stop(pool: "subprocess.Popen[str]") -> None:
    if pool.stdin:
        pool.stdin.close()
    try:
        pool.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        pool.kill()
        pool.wait()


def make_corpus() -> int:
    """Writes the docstrings of this Python as Parquet, unless done before; returns how many there are."""
    if CORPUS.exists():
        count: int = pq.read_metadata(CORPUS).num_rows
        step(3, "Corpus", f"reusing {CORPUS}: {count:,} docstrings")
        return count
    step(3, "Corpus", f"docstrings of the installed Python, up to {DOCUMENTS:,}; read, never imported")
    with console.status("   reading …"):
        count = write_corpus(CORPUS)
    console.print(f"   {count:,} docstrings in {CORPUS}")
    return count


def index_corpus(address: str, count: int) -> None:
    """Streams the corpus through the pool into an index; remembers the speed of the run that did the work."""
    complete = (INDEX / "CURRENT").exists()
    step(4, "Index", f"reusing {INDEX}" if complete else "Parquet → pool → FAISS")
    started = time.perf_counter()
    command("indexer", "run", "--input", str(CORPUS), "--output", str(INDEX), "--worker", address)
    if not complete:
        seconds = time.perf_counter() - started
        FIGURES.write_text(json.dumps({"documents": count, "seconds": seconds}))


def ask(address: str) -> None:
    """Asks the five questions and prints the hits, each with the first line of its text."""
    step(5, "Search")
    questions = HOME / "questions.txt"
    questions.write_text("".join(f"{question}\n" for question in QUESTIONS))
    answers = command(
        *("indexer", "search", "--index", str(INDEX), "--worker", address),
        *("-k", str(HITS), "--json", "--queries", str(questions)),
        capture=True,
    )
    table = pq.read_table(CORPUS, columns=["doc_id", "text"])
    texts = dict(zip(table["doc_id"].to_pylist(), table["text"].to_pylist(), strict=True))
    for line in answers.splitlines():
        answer = json.loads(line)
        console.print(f"\n   [bold]{answer['query']}[/bold]")
        for hit in answer["hits"]:
            _print_hit(hit, texts[hit["doc_id"]])


def _print_hit(hit: dict[str, Any], text: str) -> None:
    line = Text.assemble(
        (f"   {hit['score']:.3f} ", "green"),
        (hit["doc_id"], "bold cyan"),
        "  ",
        (text.splitlines()[0], "dim"),
    )
    line.truncate(console.width - 1, overflow="ellipsis")
    console.print(line)


def query_milliseconds(address: str) -> float:
    """Returns the median time of one EmbedQuery with one question, from request to vector."""
    times = []
    with Client(address) as client:
        client.embed_query(QUESTIONS[0])  # opens the connection
        for _ in range(QUERY_ROUNDS):
            for question in QUESTIONS:
                started = time.perf_counter()
                client.embed_query(question)
                times.append((time.perf_counter() - started) * 1000)
    return statistics.median(times)


def show_figures(milliseconds: float) -> None:
    """Prints what the bundle's report, the index run and the queries measured."""
    report = json.loads((BUNDLE / "report.json").read_text())
    quality = json.loads((BUNDLE / "manifest.json").read_text())["quality"]
    before, after = report["reference_bytes"] / 1e6, (BUNDLE / "model.onnx").stat().st_size / 1e6
    kept = [
        value / quality[name.replace("/R@10", "/fp32/R@10")]
        for name, value in quality.items()
        if name.endswith("/R@10") and "/fp32/" not in name
    ]
    table = Table(title="What was measured here", title_justify="left", title_style="bold", show_header=False)
    table.add_column(style="bold")
    table.add_column()
    table.add_row("model size, FP32 → INT8", f"{before:.1f} MB → {after:.1f} MB")
    table.add_row("recall@10 kept", f"{min(kept):.1%} of FP32's")
    if FIGURES.exists():
        run = json.loads(FIGURES.read_text())
        rate = f"{run['documents'] / run['seconds']:.0f} documents/s"
        cpus = len(os.sched_getaffinity(0))
        table.add_row("indexing", f"{rate} ({run['documents']:,} in {run['seconds']:.0f} s on {cpus} CPUs)")
    table.add_row("one query, median", f"{milliseconds:.1f} ms")
    table.add_row("bundle, with report.md", str(BUNDLE))
    table.add_row("corpus", str(CORPUS))
    table.add_row("index", str(INDEX))
    console.print()
    console.print(table)
    console.print("\n   Ask more:", style="bold")
    ask_more = f"python -m indexer search --index {INDEX} --bundle {BUNDLE}"
    console.print(Text(f'   $ .venv/bin/{ask_more} "parse a date"', "cyan"), soft_wrap=True)


def main() -> int:
    """Runs the demo in the current folder; returns the exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends like Ctrl-C: nothing is left running
    HOME.mkdir(exist_ok=True)
    try:
        build_bundle()
        with running_pool() as address:
            index_corpus(address, make_corpus())
            ask(address)
            show_figures(query_milliseconds(address))
    except DemoError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except IndexerError as error:
        print(f"error: the pool did not answer a query ({error}); see {POOL_LOG}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on from here", file=sys.stderr)
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
