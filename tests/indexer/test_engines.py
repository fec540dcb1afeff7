"""Who has which unit, where actors sit, and what travels between processes."""

import multiprocessing
import os
import pickle
import signal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer import errors
from indexer.engines.allotment import Allotment
from indexer.engines.own_cpus import own_cpus, starting_on
from indexer.engines.seats import Node, RayConfig, Seat, seats
from indexer.errors import ConfigError, EngineError, GaveUpError, IndexerError
from indexer.store.lock import BusyError, Holder

ACTORS = 3
_STEPS = st.lists(
    st.tuples(st.sampled_from(["offer", "commit", "pass", "lose", "retry", "found"]), st.integers(0, 40)),
    max_size=120,
)


@given(units=st.sets(st.integers(0, 40)), most=st.integers(0, 9), steps=_STEPS)
def test_a_unit_is_with_one_actor_at_most(units: set[int], most: int, steps: list[tuple[str, int]]) -> None:
    """Whatever is committed, passed over and lost: none is given twice at once; in the end all are done."""
    allotment = Allotment(units, most)
    held: dict[int, set[int]] = {actor: set() for actor in range(ACTORS)}
    elsewhere: set[int] = set()
    done: set[int] = set()
    for step, number in steps:
        actor = number % ACTORS
        mine = sorted(held[actor])
        if step == "offer":
            given_now = allotment.offer(actor, ACTORS)
            assert given_now == sorted(given_now)
            assert not set(given_now) & (done | elsewhere | set().union(*held.values()))
            held[actor] |= set(given_now)
            assert len(held[actor]) <= max(2, most)
        elif step == "commit" and mine:
            assert allotment.done(mine[0])
            held[actor].remove(mine[0])
            done.add(mine[0])
        elif step == "pass" and mine:
            allotment.passed(actor, mine[0])
            held[actor].remove(mine[0])
            elsewhere.add(mine[0])
        elif step == "lose":
            assert allotment.lost(actor) == len(held[actor])
            held[actor] = set()
        elif step == "retry":
            allotment.retry()
            elsewhere = set()
        elif step == "found" and number in units:
            assert allotment.done(number) == (number not in done)
            done.add(number)
            elsewhere.discard(number)
            for each in held.values():
                each.discard(number)
        assert (allotment.missing, allotment.elsewhere) == (len(units - done), len(elsewhere))
    for actor in range(ACTORS):
        allotment.lost(actor)
    allotment.retry()
    while allotment.missing:
        for number in allotment.offer(0, 1):
            allotment.done(number)
            done.add(number)
    assert done == units


def test_towards_the_end_actors_have_few_units() -> None:
    """With many units left an actor has its fill; of the last ones it gets two, so that others have some."""
    allotment = Allotment(range(100), 10)
    assert allotment.offer(0, 4) == list(range(10))
    for number in range(98):
        allotment.done(number)
    assert [allotment.offer(actor, 4) for actor in (0, 1)] == [[98, 99], []]


@given(
    cpus=st.lists(st.integers(0, 8), max_size=5), actors=st.none() | st.integers(1, 9),
    each=st.none() | st.integers(1, 9), private=st.booleans(),
)  # fmt: skip
def test_seats_fit_their_nodes(cpus: list[int], actors: int | None, each: int | None, private: bool) -> None:
    """Each actor has what was asked for, none more than its node; by default each node has one."""
    nodes = [Node(f"n{number}", count) for number, count in enumerate(cpus)]
    able = [node for node in nodes if node.cpus >= (each or 1)]
    if not able:
        with pytest.raises(EngineError, match="no node of the cluster has"):
            seats(nodes, RayConfig(None, actors, each), private=private)
        return
    found = seats(nodes, RayConfig(None, actors, each), private=private)
    by_name = {node.name: node.cpus for node in nodes}
    assert all(1 <= seat.cpus <= by_name[seat.node] for seat in found)
    assert actors is None or len(found) == actors
    if actors is None:
        assert {seat.node for seat in found} == {node.name for node in able}
        assert sum(seat.cpus for seat in found) <= sum(cpus)
    if each is not None:
        assert {seat.cpus for seat in found} == {each}


def test_a_pool_of_its_own_has_the_whole_node() -> None:
    """With --bundle and nothing else, CPUs are neither idle nor shared."""
    nodes = [Node("a", 4), Node("b", 2), Node("head", 0)]
    assert seats(nodes, RayConfig(), private=True) == [Seat("a", 4), Seat("b", 2)]
    assert seats(nodes, RayConfig(actors=4), private=True) == [Seat("a", 2), Seat("b", 1)] * 2
    assert seats(nodes, RayConfig(cpus=2), private=True) == [Seat("a", 2), Seat("a", 2), Seat("b", 2)]
    assert seats(nodes, RayConfig(), private=False) == [Seat("a", 1), Seat("b", 1)]


@pytest.mark.parametrize(
    "wrong", [{"actors": 0}, {"cpus": -1}, {"address": "ray://head:10001"}, {"address": ""}]
)
def test_impossible_settings_are_refused(wrong: dict[str, Any]) -> None:
    """The message names the option and what it got."""
    with pytest.raises(ConfigError, match=f"--ray-{next(iter(wrong))} is '?{next(iter(wrong.values()))}"):
        RayConfig(**wrong)


def _kinds(kind: type[IndexerError]) -> list[type[IndexerError]]:
    return [kind, *(below for one in kind.__subclasses__() for below in _kinds(one))]


def test_errors_travel_as_they_are() -> None:
    """Every kind of error comes out of a pickle with its type, message and attributes."""
    made: list[IndexerError] = [kind.__new__(kind, "why") for kind in _kinds(IndexerError)]
    made += [GaveUpError(3.5, "a; b"), BusyError(errors.__file__, [Holder("h", 1, "run")])]  # type: ignore[arg-type]
    for error in made:
        again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
        assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))


def _hold(count: int, said: Any) -> None:
    with own_cpus(count) as cpus, starting_on(cpus):
        said.put((sorted(cpus), sorted(os.sched_getaffinity(0))))
        signal.pause()


def test_two_pools_on_a_machine_get_cpus_of_their_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """No CPU is given twice while both live; that of a killed process is free at once."""
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("this test needs two CPUs")
    monkeypatch.setenv("TMPDIR", str(tmp_path_factory.mktemp("cpus")))
    context = multiprocessing.get_context("spawn")
    said = context.Queue()

    def start() -> tuple[Any, list[int]]:
        process = context.Process(target=_hold, args=(1, said))
        process.start()
        cpus, bound = said.get(timeout=60)
        assert cpus == bound
        return process, cpus

    (first, mine), (second, other) = start(), start()
    assert mine != other
    os.kill(first.pid, signal.SIGKILL)
    first.join(60)
    third, again = start()
    assert again == mine
    for process in (second, third):
        process.kill()
        process.join(60)
