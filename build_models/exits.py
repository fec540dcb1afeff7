"""How a command ends: exit code 0 done, 1 failed, 2 wrong usage, 3 quality gate not met."""

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import click

from build_models.errors import BuildError, GateError
from worker.errors import WorkerError

_FAILED = 1
_GATE_NOT_MET = 3
INTERRUPTED = 130  # what shells report of a program ended by Ctrl-C


@contextmanager
def exits(out: Path) -> Iterator[None]:
    """Ends the process with one line on stderr where the work inside fails at something it names.

    Args:
        out: What is written, for the message of a full disk.
    """
    try:
        yield
    except GateError as error:
        fail(str(error), _GATE_NOT_MET)
    except (BuildError, WorkerError) as error:
        fail(str(error), _FAILED)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        fail(f"no space left where {out} is to be written; free some or give another --out", _FAILED)


def fail(message: str, code: int) -> NoReturn:
    """Ends the process with one line on stderr."""
    click.echo("error: " + " ".join(message.split()), err=True)
    sys.exit(code)
