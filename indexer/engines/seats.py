"""Where actors sit: which node of a cluster has how many, and how many CPUs each takes. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from indexer.errors import ConfigError, EngineError


@dataclass(frozen=True)
class RayConfig:
    """The cluster and the actors on it.

    Attributes:
        address: HOST:PORT of a cluster that runs, or `auto`; None for one that is started on this machine,
            and stopped.
        actors: How many; None for one on each node, or with `cpus` as many as fit.
        cpus: CPUs that each reserves. None: one for actors that call pools elsewhere; for actors with a pool
            of their own all of the node's, shared evenly.
    """

    address: str | None = None
    actors: int | None = None
    cpus: int | None = None

    def __post_init__(self) -> None:
        """Checks the fields; raises ConfigError."""
        for name, value in (("--ray-actors", self.actors), ("--ray-cpus", self.cpus)):
            if value is not None and value < 1:
                raise ConfigError(f"{name} is {value}, wanted 1 or more")
        if self.address is not None and (not self.address or "://" in self.address):
            raise ConfigError(
                f"--ray-address is '{self.address}', wanted HOST:PORT of the cluster or 'auto', on a machine "
                "that is one of its nodes (ray start --address HOST:PORT)"
            )


@dataclass(frozen=True)
class Node:
    """A machine of a cluster: its name for Ray, and its CPUs."""

    name: str
    cpus: int


@dataclass(frozen=True)
class Seat:
    """A place for an actor: the node that is best, and the CPUs that it reserves."""

    node: str
    cpus: int


def seats(nodes: Sequence[Node], config: RayConfig, *, private: bool) -> list[Seat]:
    """Returns a place for each actor, spread over the nodes in turns.

    Args:
        nodes: Of the cluster.
        config: What is asked for.
        private: Whether each actor has a pool of its own.

    Raises:
        EngineError: No node has so many CPUs.
    """
    cpus = config.cpus or 1
    able = sorted((node for node in nodes if node.cpus >= cpus), key=lambda node: node.name)
    if not able:
        most = max((node.cpus for node in nodes), default=0)
        raise EngineError(
            f"no node of the cluster has {cpus} CPUs for an actor, the largest has {most}: add nodes, or "
            "give --ray-cpus so many or fewer"
        )
    if config.actors is None and config.cpus is not None:
        return [Seat(node.name, cpus) for node in able for _ in range(node.cpus // cpus if private else 1)]
    count = len(able) if config.actors is None else config.actors
    on = [able[number % len(able)] for number in range(count)]
    if not private or config.cpus is not None:
        return [Seat(node.name, cpus) for node in on]
    return [Seat(node.name, max(1, node.cpus // on.count(node))) for node in on]
