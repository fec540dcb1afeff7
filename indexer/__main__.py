"""The command line: `python -m indexer COMMAND`.

Errors are one line on stderr. Exit code 0: done; 1: failed; 2: wrong usage; 128 + number: a signal
stopped it.
"""

import os
import signal
import sys
from types import FrameType

import click

from indexer.commands.compact_command import compact
from indexer.commands.delete_command import delete
from indexer.commands.estimate_command import estimate
from indexer.commands.recall_command import recall
from indexer.commands.repair_command import repair
from indexer.commands.run_command import run
from indexer.commands.search_command import search
from indexer.commands.serve_command import serve
from indexer.commands.verify_command import verify
from indexer.errors import ConfigError, IndexerError, StoppedError


@click.group(context_settings={"show_default": True})
@click.version_option(package_name="embedpool")
def cli() -> None:
    """Embed Parquet documents with a pool of workers, and search them."""


for command in (estimate, run, search, serve, delete, compact, verify, repair, recall):
    cli.add_command(command)


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
