"""Texts of two models in one pool, with processes that answer and end at random."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
from hypothesis import given
from numpy.typing import NDArray

from worker.errors import PoisonError, UnavailableError, WorkerError
from worker.models import Model
from worker.processes.dispatch import Dispatch
from worker.processes.frames import Answer
from worker.scheduling.scheduler import MAX_DEATHS, Priority, Scheduler
from worker.scheduling.work import Work
from worker.statistics import End, Statistics

SLOTS = 3


class MadeUpCrew:
    """Processes that compute a text's first token and their model's generation."""

    def __init__(self, generation: int, computing: dict[int, int]) -> None:
        self.scheduler = Scheduler[Work](64, bulk_share=0.1)
        self.hopeless = False
        self.generation = generation
        self.dead: set[int] = set()
        self.runs: dict[int, Sequence[Work]] = {}
        self._computing = computing

    def is_free(self, number: int) -> bool:
        """Returns whether the process takes a run."""
        return number not in self.runs and number not in self.dead

    def run(self, number: int, works: Sequence[Work]) -> None:
        """Takes a run; the slot must have none of either model."""
        assert number not in self._computing
        assert all(work.model.generation == self.generation for work in works)
        self._computing[number] = self.generation
        self.runs[number] = works

    def answer(self, number: int) -> Answer:
        """Ends a run."""
        del self._computing[number]
        rows = [[float(work.ids[0]), self.generation] for work in self.runs.pop(number)]
        return Answer(np.array(rows, dtype=np.float32), {}, 1000)

    def die(self, number: int) -> None:
        """Ends a process."""
        if self.runs.pop(number, None) is not None:
            del self._computing[number]


class Books:
    """Takes outcomes."""

    def __init__(self) -> None:
        self.outcomes: dict[int, list[float] | WorkerError] = {}

    def deliver(self, row: int, vector: NDArray[np.float32], queue_ns: int, run_ns: int) -> None:
        """Notes a vector."""
        assert row not in self.outcomes
        self.outcomes[row] = vector.tolist()

    def fail(self, row: int, error: WorkerError) -> None:
        """Notes an error."""
        assert row not in self.outcomes
        self.outcomes[row] = error


def model(generation: int) -> Model:
    """Makes a model that nobody loads."""
    nothing: Any = Path()
    return Model(generation, nothing, nothing, nothing)


MODELS = {generation: model(generation) for generation in (1, 2)}
steps = st.one_of(
    st.tuples(st.just("submit"), st.integers(1, 2), st.sampled_from(Priority)),
    st.tuples(st.just("answer"), st.integers(0, SLOTS - 1), st.none()),
    st.tuples(st.just("end"), st.integers(0, SLOTS - 1), st.sampled_from(End)),
    st.tuples(st.just("begin"), st.integers(0, SLOTS - 1), st.integers(1, 2)),
)


@given(st.lists(steps, max_size=120))
def test_random_histories(history: list[tuple[Any, ...]]) -> None:
    """One run a slot, each text once and by its own model; only what crashes processes twice fails."""
    computing: dict[int, int] = {}
    crews = {generation: MadeUpCrew(generation, computing) for generation in (1, 2)}
    statistics = Statistics()
    dispatch = Dispatch(SLOTS, statistics)
    dispatch.crews.update(crews)
    books = Books()
    sent: list[Work] = []
    for kind, number, detail in history:
        if kind == "submit":
            stream, row = number * 10 + (detail is Priority.BULK), len(sent)
            ids = np.full(5, row)
            work = Work(stream, detail, 5, ids=ids, model=MODELS[number], sink=books, row=row)
            sent.append(work)
            dispatch.submit([work])
        elif kind == "answer" and number in computing:
            crew = crews[computing[number]]
            dispatch.answered(crew, number, crew.answer(number))
        elif kind == "end" and number in computing:
            crew = crews[computing[number]]
            crew.dead.add(number)
            crew.die(number)
            dispatch.ended(crew, number, detail)
        elif kind == "begin":
            crews[detail].dead.discard(number)
            dispatch.feed(number)
    for crew in crews.values():
        crew.dead.clear()
    dispatch.feed_all()
    while computing:
        number, generation = next(iter(computing.items()))
        dispatch.answered(crews[generation], number, crews[generation].answer(number))
    assert sorted(books.outcomes) == list(range(len(sent)))
    for work in sent:
        outcome = books.outcomes[work.row]
        if isinstance(outcome, WorkerError):
            assert isinstance(outcome, PoisonError)
            assert work.deaths >= MAX_DEATHS or work.kills > MAX_DEATHS
        else:
            assert outcome == [work.row, work.model.generation]
    runs = Counter({priority: counts.runs for priority, counts in statistics.classes.items()})
    assert sum(runs.values()) <= len(sent)


def test_a_model_that_left_takes_nothing() -> None:
    """Texts of a model without processes are told to come again, those that wait and those that come."""
    computing: dict[int, int] = {}
    crews = {generation: MadeUpCrew(generation, computing) for generation in (1, 2)}
    dispatch = Dispatch(1, Statistics())
    dispatch.crews.update(crews)
    books = Books()
    works = [
        Work(one, Priority.BULK, 60, ids=np.full(1, one), model=MODELS[1], sink=books, row=one)
        for one in range(3)
    ]
    dispatch.submit(works[:2])
    crews[1].die(0)
    dispatch.remove(1)
    dispatch.submit(works[2:])
    assert all(isinstance(books.outcomes[row], UnavailableError) for row in range(3))
    late = dataclasses.replace(works[0], model=MODELS[2], row=9)
    dispatch.submit([late])
    assert computing == {0: 2}
