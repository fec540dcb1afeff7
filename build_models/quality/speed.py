"""Measurements of a candidate through the worker's own session: grouping, and time.

Guarantee: what is measured is `worker.session.Session` on one pinned thread, as in a process of the pool.
"""

import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from build_models.candidates import Candidate
from worker.session import Session
from worker.tokenizer import Tokenizer

# Tokens of texts that may share a run: from about here on, one text alone is as fast per token.
GROUP_TOKENS = 64
# What invariance asks of a text's vector beside any neighbours.
INVARIANT_COSINE = 0.99999
_TEXTS = 512  # enough short texts to fill groups of many lengths; arbitrary
_LENGTHS = (32, 128, 240)  # tokens of the texts that are timed: a query, a paragraph, a page
_CPU_ROUNDS = 7  # of a search, which times a dozen candidates; arbitrary
_ROUNDS = 9  # interleaved; the median of an odd count is one that was seen; arbitrary

Call = Callable[[NDArray[np.int64]], object]


def group_cosine(candidate: Candidate, texts: Sequence[str]) -> float:
    """Returns the least cosine between a text's vector alone and in a group of equal length.

    Returns 0.0 where no two texts are short enough to meet in a group.
    """
    tokenizer = Tokenizer(candidate.bundle.tokenizer, candidate.bundle.manifest.max_tokens)
    short = [t.ids for t in tokenizer.encode(texts[:_TEXTS]) if 2 * len(t.ids) <= GROUP_TOKENS]
    short.sort(key=len)
    lengths = [len(ids) for ids in short]
    if len(set(lengths)) == len(lengths):
        return 0.0
    alone = Session(candidate.with_group(0).bundle).embed(short)
    grouped = Session(candidate.with_group(GROUP_TOKENS).bundle).embed(short)
    norms = np.linalg.norm(alone, axis=1) * np.linalg.norm(grouped, axis=1)
    return float((np.einsum("nd,nd->n", alone, grouped) / norms).min())


def allow_groups(candidate: Candidate, texts: Sequence[str]) -> tuple[Candidate, float]:
    """Returns the candidate with the group limit that its measurement allows, and the cosine measured.

    Activations scaled at run time share one scale a tensor: such texts run alone whatever was measured,
    because other texts may move each other further than these did.
    """
    cosine = group_cosine(candidate, texts)
    allowed = cosine >= INVARIANT_COSINE and candidate.recipe.invariant
    return candidate.with_group(GROUP_TOKENS if allowed else 0), cosine


def time_runs(candidates: Mapping[str, Candidate], vocabulary: int) -> dict[str, dict[int, float]]:
    """Returns for each candidate the median milliseconds of one text by its length in tokens.

    Candidates take turns, so that a busy machine slows all of them alike.
    """
    sessions = {name: Session(candidate.bundle) for name, candidate in candidates.items()}
    longest = min(candidate.bundle.manifest.max_tokens for candidate in candidates.values())
    return time_calls({name: _alone(session) for name, session in sessions.items()}, longest, vocabulary)


def time_documents(
    reference: Candidate, candidate: Candidate, tokens: NDArray[np.int64], vocabulary: int
) -> tuple[float, float]:
    """Returns what a document costs on one core: the ratio to the reference, and milliseconds.

    Both take turns on one pinned thread, on texts as long as the documents at the 10th, 30th, 50th, 70th and
    90th percentile. CPU time of the thread counts, which a busy machine hardly changes.

    Args:
        reference: The FP32 graph.
        candidate: What is timed.
        tokens: Length of each document, int64 `[documents]`.
        vocabulary: How many token ids there are.
    """
    lengths = np.percentile(tokens, (10, 30, 50, 70, 90), method="nearest").astype(int)
    chance = np.random.default_rng(0)
    calls = {"reference": _alone(Session(reference.bundle)), "candidate": _alone(Session(candidate.bundle))}
    totals = dict.fromkeys(calls, 0.0)
    with one_cpu():
        for length in lengths:
            ids = chance.integers(0, vocabulary, length, dtype=np.int64)
            for name, seconds in _interleaved(calls, ids, _CPU_ROUNDS, time.thread_time).items():
                totals[name] += 1000 * statistics.median(seconds) / len(lengths)
    return totals["candidate"] / totals["reference"], totals["candidate"]


def time_calls(calls: Mapping[str, Call], longest: int, vocabulary: int) -> dict[str, dict[int, float]]:
    """Returns for each call the median milliseconds of one text by its length in tokens.

    Args:
        calls: Name to what computes a text's token ids `[tokens]` on the calling thread; they take turns.
        longest: Tokens that a text may have.
        vocabulary: How many token ids there are.
    """
    chance = np.random.default_rng(0)
    result: dict[str, dict[int, float]] = {name: {} for name in calls}
    with one_cpu():
        for length in sorted({min(length, longest) for length in _LENGTHS}):
            ids = chance.integers(0, vocabulary, length, dtype=np.int64)
            for name, seconds in _interleaved(calls, ids, _ROUNDS, time.perf_counter).items():
                result[name][length] = 1000 * statistics.median(seconds)
    return result


def _alone(session: Session) -> Call:
    return lambda ids: session.embed([ids])


def _interleaved(
    calls: Mapping[str, Call], ids: NDArray[np.int64], rounds: int, clock: Callable[[], float]
) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name, call in calls.items():
            started = clock()
            call(ids)
            if turn:  # the first run of a shape also allocates
                seconds[name].append(clock() - started)
    return seconds


@contextmanager
def one_cpu() -> Iterator[None]:
    """Pins the calling thread to one of its CPUs, and lets it go where it might before afterwards."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
