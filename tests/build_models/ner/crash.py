"""Trains a tagger in processes that are killed: `crash.py SETTINGS`, handed on by the test.

The first process gets SIGKILL just before its first durable step (fsync, replace, rename, unlink), the next
one resumes and gets it before its second, and so on until one lives to the end; prints how many were killed.
The product has no hook for this: the system calls that it uses are wrapped here. One process imports torch,
the others are forked from it.
"""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[3]))

import transformers.models.auto.modeling_auto
import transformers.models.bert.modeling_bert  # noqa: F401  here once, not in each process

from build_models.ner.config import Amp, FinetuneConfig
from build_models.ner.finetune import finetune

_STEPS = ("fsync", "replace", "rename", "unlink")
_MOST = 40  # processes: a run that gets nowhere must end


def _kill_before(step: int) -> None:
    done = 0

    def wrap(real: Any) -> Any:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            nonlocal done
            done += 1
            if done == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **options)

        return wrapped

    for name in _STEPS:
        setattr(os, name, wrap(getattr(os, name)))


def main() -> int:
    """Runs processes until one is not killed; returns its exit code."""
    settings = json.loads(sys.argv[1])
    settings |= {name: Path(settings[name]) for name in ("data", "out")}
    settings |= {"amp": Amp(settings["amp"]), "resume": True}
    for killed in range(_MOST):
        child = os.fork()
        if not child:
            _kill_before(killed + 1)
            finetune(FinetuneConfig(**settings))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if not (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL):
            sys.stdout.write(f"{killed}\n")
            return os.waitstatus_to_exitcode(status)
    return 1


if __name__ == "__main__":
    sys.exit(main())
