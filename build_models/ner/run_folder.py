"""What a training run keeps beside its place until it is done: who it is, its checkpoint, its best weights.

Guarantee: killed at any moment, the folder holds a whole checkpoint or none. A checkpoint names the file of
the best weights that it knows of, which was complete before it.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from build_models.errors import OutputError, TrainingError
from build_models.whole_file import write_whole

_RUN = "run.json"
_CHECKPOINT = "checkpoint.pt"
_TOKENIZER = "tokenizer.json"
_LOCK = "lock"


class RunFolder:
    """The folder `OUT.training`.

    Attributes:
        path: Where it lies.
    """

    def __init__(self, out: Path) -> None:
        self.path = out.with_name(out.name + ".training")

    @property
    def checkpoint(self) -> Path:
        """The state that a run goes on from."""
        return self.path / _CHECKPOINT

    @property
    def tokenizer(self) -> Path:
        """The tokenizer of the run."""
        return self.path / _TOKENIZER

    def best(self, epoch: int) -> Path:
        """Returns where the weights of an epoch that was the best so far lie."""
        return self.path / f"best-{epoch}.pt"

    @contextmanager
    def opened(self, identity: Mapping[str, Any], *, resume: bool, force: bool) -> Iterator[dict[str, Any]]:
        """Yields what `run.json` says; no other run can open the folder meanwhile.

        Args:
            identity: What decides the weights; a run goes on only with what it began with.
            resume: Whether to go on with what is there; without anything there, a run begins.
            force: Whether to throw away what is there.

        Raises:
            OutputError: The folder cannot be made.
            TrainingError: Another run is at it, it is there and neither resumed nor forced, or it began
                with another identity.
        """
        if self.path.exists() and not (resume or force):
            raise TrainingError(
                f"{self.path} holds a run that was stopped; give --resume to go on with it, "
                "or --force to start again"
            )
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = os.open(self.path / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise OutputError(f"cannot write {self.path} ({error.strerror}); give another --out") from error
        try:
            self._lock(lock)
            self._empty(keep=not force)
            yield self._begin(identity)
        finally:
            os.close(lock)

    def note(self, run: Mapping[str, Any]) -> None:
        """Writes `run.json`."""
        text = json.dumps(run, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        write_whole(self.path / _RUN, text.encode())

    def keep_best(self, epoch: int) -> None:
        """Removes the weights of all epochs but one."""
        for file in self.path.glob("best-*.pt"):
            if file != self.best(epoch):
                file.unlink()

    def remove(self) -> None:
        """Removes the folder, once its tagger is in its place."""
        shutil.rmtree(self.path, ignore_errors=True)

    def _lock(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise TrainingError(
                f"another run is at work in {self.path}; wait for it or give another --out"
            ) from error

    def _empty(self, *, keep: bool) -> None:
        """Removes what killed writes left; with `keep` unset, everything."""
        for file in self.path.iterdir():
            if file.name != _LOCK and (file.name.startswith(".") or not keep):
                file.unlink()

    def _begin(self, identity: Mapping[str, Any]) -> dict[str, Any]:
        file = self.path / _RUN
        if not file.exists():
            self.checkpoint.unlink(missing_ok=True)
            run: dict[str, Any] = {"identity": dict(identity)}
            self.note(run)
            return run
        try:
            run = json.loads(file.read_text(encoding="utf-8"))
            before = run["identity"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise TrainingError(f"cannot read {file} ({error}); give --force to start again") from error
        check_same(before, identity, self.path)
        return run


def check_same(before: Mapping[str, Any], now: Mapping[str, Any], path: Path) -> None:
    """Compares what a run began with and what it is asked to go on with.

    Raises:
        TrainingError: They differ; the message names each difference.
    """
    wanted = json.loads(json.dumps(now))  # as it reads back
    names = sorted({*before, *wanted})
    different = [
        f"{name} was {before.get(name)!r} and is {wanted.get(name)!r}"
        for name in names
        if before.get(name) != wanted.get(name)
    ]
    if different:
        raise TrainingError(
            f"{path} began with other settings: {'; '.join(different)}; "
            "go on with the old ones, or give --force to start again"
        )
