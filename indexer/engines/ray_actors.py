"""The actors of a Ray cluster: who was asked what, what came back, who is gone. Decides nothing."""

from dataclasses import dataclass
from typing import Any

from indexer.engines.seats import Seat
from indexer.engines.station import Station

_THREADS = 4  # of an actor: `embed`, `exchange`, and one each for `stop` and `close`


@dataclass(frozen=True)
class Lost:
    """In place of an answer: the actor is gone, and why."""

    reason: str


@dataclass(frozen=True)
class Said:
    """An actor's answer to a method, or how it was lost; then no other answer of it comes."""

    actor: int
    method: str
    value: Any


class Actors:
    """Stations in processes of a cluster, by number.

    Args:
        ray: The module, connected to the cluster.
    """

    def __init__(self, ray: Any) -> None:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self._ray, self._affinity = ray, NodeAffinitySchedulingStrategy
        # Never by Ray: a new actor has a new number, so that news of the old one cannot be taken for its.
        self._remote = ray.remote(max_restarts=0, max_task_retries=0)(Station)
        self._handles: dict[int, Any] = {}
        self._calls: dict[Any, tuple[int, str]] = {}
        self._next = 0

    def add(self, seat: Seat) -> int:
        """Starts an actor, on another node where that of its seat is gone; returns its number."""
        number, self._next = self._next, self._next + 1
        where = self._affinity(node_id=seat.node, soft=True)
        options = {"num_cpus": seat.cpus, "max_concurrency": _THREADS, "scheduling_strategy": where}
        self._handles[number] = self._remote.options(**options).remote()
        return number

    def ask(self, actor: int, method: str, *arguments: Any) -> None:
        """Calls a method of an actor; `answers` tells what it returns."""
        reference = getattr(self._handles[actor], method).remote(*arguments)
        self._calls[reference] = (actor, method)

    def answers(self, seconds: float) -> list[Said]:
        """Waits for answers; returns those that are there.

        Raises:
            Exception: What a method raised: a defect, whose trace is of use.
        """
        if not self._calls:
            return []
        done, _ = self._ray.wait(list(self._calls), num_returns=1, timeout=seconds)
        if done:  # and whatever else is there
            done, _ = self._ray.wait(list(self._calls), num_returns=len(self._calls), timeout=0)
        said = []
        for reference in done:
            if reference not in self._calls:  # of an actor that was lost a moment ago
                continue
            actor, method = self._calls.pop(reference)
            value = self._value(reference)
            if isinstance(value, Lost):
                self.drop(actor)
            said.append(Said(actor, method, value))
        return said

    def drop(self, actor: int) -> None:
        """Ends an actor at once and forgets it."""
        handle = self._handles.pop(actor, None)
        self._calls = {ref: call for ref, call in self._calls.items() if call[0] != actor}
        if handle is not None:
            self._ray.kill(handle, no_restart=True)

    def _value(self, reference: Any) -> Any:
        errors = self._ray.exceptions
        try:
            return self._ray.get(reference)
        except errors.RayTaskError as error:
            raise error.cause from None
        except errors.OutOfMemoryError:
            return Lost("Ray ended it, its node ran out of memory")
        except errors.RayError as error:
            return Lost(_why(str(error)))


def _why(words: str) -> str:
    """Returns what ended an actor, of the page that Ray says about it."""
    if "unavailable" in words:
        return "it cannot be reached"
    if "node" in words and ("died" in words or "dead" in words) and "worker process has died" not in words:
        return "its node is gone"
    if "worker process has died" in words or "unexpectedly" in words:
        return "its process ended"
    return words.strip().splitlines()[0] if words.strip() else "it is gone"
