"""Which pools there are, by what names say now. Pure: no I/O, no clock.

Guarantees: a name that gives no answer, or an empty one, changes nothing: that a resolver fails is no reason
to leave pools that serve. An address that several targets name is one member until the last of them drops it.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from indexer.client.naming import Endpoint, Name, name_of


@dataclass(frozen=True)
class Changes:
    """What has to be done for the members to be those that are wanted; the order is that of the wanted.

    Attributes:
        joins: Addresses that are new.
        leaves: Addresses that are wanted no longer.
        keeps: Addresses that stay.
    """

    joins: tuple[str, ...]
    leaves: tuple[str, ...]
    keeps: tuple[str, ...]


def changes(standing: Collection[str], wanted: Collection[str]) -> Changes:
    """Returns what parts the members that stand from those that are wanted."""
    return Changes(
        joins=tuple(one for one in wanted if one not in standing),
        leaves=tuple(one for one in standing if one not in wanted),
        keeps=tuple(one for one in wanted if one in standing),
    )


class Membership:
    """The pools that targets name: some by their address, others as what their names had at last.

    Args:
        targets: Targets, each once.
        most: Addresses of one name that are used at most.
    """

    def __init__(self, targets: Sequence[str], most: int) -> None:
        self.names: tuple[Name, ...] = tuple(name for one in targets if (name := name_of(one)))
        self._most = most
        self._targets = tuple(targets)
        self._found: dict[str, tuple[str, ...]] = {name.target: () for name in self.names}

    def resolved(self, name: Name, addresses: Sequence[str]) -> str:
        """Takes what a name has now; returns why that is not taken as it is, "" where it is.

        Args:
            name: One of `names`.
            addresses: What can be dialled, in the resolver's order; one may be there twice.
        """
        unique = tuple(dict.fromkeys(addresses))
        before = self._found[name.target]
        if not unique:
            return "it has no address" + (f"; its {len(before)} pools are kept" if before else "")
        # Whoever is there stays: the order of a resolver changes from answer to answer.
        stay = [one for one in unique if one in before]
        kept = (stay + [one for one in unique if one not in before])[: self._most]
        self._found[name.target] = tuple(one for one in unique if one in kept)
        if len(unique) > self._most:
            return f"it has {len(unique)} addresses, {self._most} of them are used"
        return ""

    def known(self, name: Name) -> bool:
        """Whether a name ever had an address."""
        return bool(self._found[name.target])

    @property
    def endpoints(self) -> Mapping[str, Endpoint]:
        """The pools by address, in the order of the targets."""
        hosts = {name.target: name.host for name in self.names}
        found: dict[str, Endpoint] = {}
        for target in sorted(self._targets, key=lambda one: one in hosts):  # an address alone goes first
            for address in self._found.get(target, (target,)):
                found.setdefault(address, Endpoint(address, hosts.get(target, ""), target))
        return found
