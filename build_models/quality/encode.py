"""Texts to vectors on every usable CPU, through the tokenizer and the session that the worker serves with.

Each CPU has a process of its own with one session on one thread. Nothing is sorted and nothing padded.
This file is imported by those processes: it must not import torch.
"""

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.queues import Queue
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from build_models.errors import EvaluationError
from build_models.progress import progress
from worker.bundle import Bundle
from worker.cpus import read_cpus
from worker.session import Session
from worker.tokenizer import Tokenizer

if TYPE_CHECKING:  # reading sets loads pyarrow, which no process that encodes needs
    from build_models.quality.judgements import EvalSet

_CHUNK_TEXTS = 16  # per message to a process: a second of work at most, so that progress moves

_Encoded = tuple[NDArray[np.float32], NDArray[np.int64]]  # vectors `[texts, dim]`, tokens `[texts]`


@dataclass(frozen=True)
class Vectors:
    """What one model makes of an evaluation set.

    Attributes:
        documents: float32 `[documents, dim]`.
        queries: float32 `[queries, dim]`.
        document_tokens: int64 `[documents]`, tokens that the model read, prompt and special ones included.
        query_tokens: int64 `[queries]`.
    """

    documents: NDArray[np.float32]
    queries: NDArray[np.float32]
    document_tokens: NDArray[np.int64]
    query_tokens: NDArray[np.int64]


class Encoder:
    """Encodes texts with one bundle; made by `encoder`."""

    def __init__(self, bundle: Bundle, executor: ProcessPoolExecutor) -> None:
        self._manifest = bundle.manifest
        self._executor = executor

    def eval_set(self, data: "EvalSet", label: str) -> Vectors:
        """Returns the vectors and lengths of all texts of a set, in its order."""
        documents, document_tokens = self.documents(
            list(data.documents.values()), f"{label}: documents of {data.name}"
        )
        queries, query_tokens = self.queries(list(data.queries.values()), f"{label}: queries of {data.name}")
        return Vectors(documents, queries, document_tokens, query_tokens)

    def documents(self, texts: Sequence[str], label: str) -> _Encoded:
        """Returns the vectors of documents, their prompt put in front, and their tokens.

        float32 `[texts, dim]` and int64 `[texts]`.
        """
        return self._encode(texts, self._manifest.document_prompt, label)

    def queries(self, texts: Sequence[str], label: str) -> _Encoded:
        """Returns the vectors of queries, their prompt put in front, and their tokens; see `documents`."""
        return self._encode(texts, self._manifest.query_prompt, label)

    def _encode(self, texts: Sequence[str], prompt: str, label: str) -> _Encoded:
        front = self._manifest.prompts[prompt] if prompt else ""
        prompted = [front + text for text in texts]
        vectors = np.empty((len(texts), self._manifest.dim), dtype=np.float32)
        tokens = np.empty(len(texts), dtype=np.int64)
        starts = range(0, len(texts), _CHUNK_TEXTS)
        with progress(label, len(texts), "texts") as advance:
            futures = [
                self._executor.submit(_embed, prompted[start : start + _CHUNK_TEXTS]) for start in starts
            ]
            for start, future in zip(starts, futures, strict=True):
                part, lengths = _result(future)
                vectors[start : start + len(part)] = part
                tokens[start : start + len(part)] = lengths
                advance(len(part))
        return vectors, tokens


@contextmanager
def encoder(bundle: Bundle) -> Iterator[Encoder]:
    """Starts one process for each usable CPU and ends them afterwards; needs no manifest on disk."""
    cpus = read_cpus()
    context = get_context("spawn")
    pins = context.Queue()
    for pin in cpus.pins(cpus.usable):
        pins.put(pin)
    executor = ProcessPoolExecutor(
        cpus.usable, mp_context=context, initializer=_start, initargs=(bundle, pins)
    )
    try:
        yield Encoder(bundle, executor)
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
        pins.close()
        pins.join_thread()


def _result(future: "Future[_Encoded]") -> _Encoded:
    try:
        return future.result()
    except BrokenProcessPool as error:
        raise EvaluationError(
            "a process that encodes texts died; is there enough memory? Lower --eval-documents"
        ) from error


_session: Session
_tokenizer: Tokenizer


def _start(bundle: Bundle, pins: "Queue[int | None]") -> None:
    global _session, _tokenizer  # a process pool has no other place for state
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent gets it too, and ends its pool
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # its threads would only compete for this one CPU
    pin = pins.get()
    if pin is not None:
        os.sched_setaffinity(0, {pin})
    _session = Session(bundle)
    _tokenizer = Tokenizer(bundle.tokenizer, bundle.manifest.max_tokens)


def _end_with_parent() -> None:
    # A pool's processes wait for work on a pipe that they hold open themselves: without this, a parent that
    # was killed would leave them waiting for good.
    parent = parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)


def _embed(texts: list[str]) -> _Encoded:
    ids = [tokens.ids for tokens in _tokenizer.encode(texts)]
    return _session.embed(ids), np.array([len(text) for text in ids], dtype=np.int64)
