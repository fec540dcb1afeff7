"""Kills a command before each of its durable steps in turn, and lets it go on: each in a process of its own.

    crash_steps.py INDEX FOLDER FIRST STEP -- COMMAND …

For step N = FIRST, FIRST + STEP, … copies INDEX into FOLDER/N, runs COMMAND (`{}` stands for the copy) in a
world that kills it before its N-th durable step, then once more in a sound one; ends with the first not
killed. Prints a JSON list of [N, exit code, exit code of the second]. The processes are forked from this one,
which has imported everything and started nothing: that spares a second for each.
"""

import json
import os
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

from indexer.__main__ import main as indexer_main
from tests.integration.indexer import faults

_MOST = 400  # steps; no command here has as many


def main() -> int:
    """Tries all steps of one share of them."""
    index, folder, first, step = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    command = sys.argv[sys.argv.index("--") + 1 :]
    found = []
    for number in range(first, _MOST, step):
        target = folder / str(number)
        shutil.copytree(index, target)
        arguments = [str(target) if word == "{}" else word for word in command]
        log = folder / f"{number}.log"
        killed, second = _run(arguments, log, number), _run(arguments, log, 0)
        found.append([number, killed, second])
        if not killed:
            break
    sys.stdout.write(json.dumps(found))
    return 0


def _run(arguments: list[str], log: Path, kill_before: int) -> int:
    """Runs a command in a fork of this process; returns its exit code, or the negative signal."""
    child = os.fork()
    if not child:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        if kill_before:
            faults._kill_before(kill_before)
        sys.argv = ["indexer", *arguments]
        code = 70
        try:
            code = indexer_main()
        finally:
            sys.stderr.flush()
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main())
