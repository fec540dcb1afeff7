"""Asks all pools that targets name what they serve, before anything is begun with them."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from indexer.client.answers import Pool
from indexer.client.directory import Directory
from indexer.client.members import Members
from indexer.client.settings import Access, NameConfig, RetryConfig
from indexer.errors import IndexerError

# Pools that come up meanwhile are seen soon; arbitrary.
_RETRY = RetryConfig(last_delay=1.0)


@dataclass
class Surveyed:
    """What one target led to.

    Attributes:
        target: As the caller wrote it.
        pools: The pools that answered, by address: one, or as many as the name has.
        errors: Why others did not, or refuse.
        unresolved: Why a name has no address; "" where it has, or is none.
    """

    target: str
    pools: dict[str, Pool] = field(default_factory=dict)
    errors: list[IndexerError] = field(default_factory=list)
    unresolved: str = ""


def survey(
    targets: Sequence[str],
    access: Access,
    wait_seconds: float,
    names: NameConfig | None = None,
    log: Callable[[str], None] = lambda _: None,
) -> list[Surveyed]:
    """Returns what each target led to, in their order; all are asked at the same time.

    Args:
        targets: Targets; each may be a name.
        access: What opens the pools.
        wait_seconds: How long those that do not answer are waited for.
        names: How names are looked up.
        log: Takes a line for people when a name fails.

    Raises:
        ConfigError: A target is malformed, or a file of the access cannot be read.
    """
    directory = Directory(targets, names or NameConfig(), log)
    for target in directory.targets:
        access.check(target)

    async def ask() -> list[Surveyed]:
        members = Members(directory, access, _RETRY, "", mixed=True)
        try:
            await members.meet_all(asyncio.get_running_loop().time() + wait_seconds)
            return _found(members)
        finally:
            await members.close()

    return asyncio.run(ask())


def narrowest(pools: Sequence[Pool]) -> Pool:
    """Returns the first pool, with limits that every one of them keeps."""
    limits = (
        "max_text_bytes",
        "max_query_texts",
        "max_batch_items",
        "max_batch_bytes",
        "max_stream_bytes",
        "max_tokens",
        "max_windows",
    )
    return replace(pools[0], **{name: min(getattr(pool, name) for pool in pools) for name in limits})


def _found(members: Members) -> list[Surveyed]:
    directory = members.directory
    found = {target: Surveyed(target) for target in directory.targets}
    for address, endpoint in directory.endpoints.items():
        one = found[endpoint.origin]
        if address in members.pools and address not in members.errors:
            one.pools[address] = members.pools[address]
        elif address in members.errors:
            one.errors.append(members.errors[address])
    for target in directory.unresolved:
        found[target].unresolved = directory.errors.get(target, "it was not looked up in time")
    return list(found.values())
