"""Which of the pools that a command names answer, and do they serve one model?"""

from collections.abc import Sequence

from rich.console import Console

from indexer.client import Access, Pool, unreachable
from indexer.client.naming import name_of
from indexer.client.survey import Surveyed, narrowest, survey
from indexer.errors import AwayError, IndexerError, ModelMismatchError
from indexer.progress import say


def reach(targets: Sequence[str], access: Access, wait_seconds: float, console: Console) -> dict[str, Pool]:
    """Returns the pools that answer, by target; all serve one model. All are asked at the same time.

    Of a name (`dns:///NAME:PORT`) it is one pool, with limits that all its pools keep.

    Raises:
        PoolError: None answers, or one that is named by its address refuses: nobody need wait for that.
        ModelMismatchError: Two serve different models.
    """
    found = survey(targets, access, wait_seconds, log=lambda line: say(console, f"warning: {line}"))
    pools = {one.target: narrowest(list(one.pools.values())) for one in found if one.pools}
    errors = [error for one in found for error in _errors(one)]
    refusals = [error for one in found if name_of(one.target) is None for error in _refusals(one)]
    if refusals or not pools:
        raise (refusals or errors)[0]
    for error in errors:
        say(console, f"warning: {error}")
    _check_one_model({address: pool for one in found for address, pool in one.pools.items()})
    return pools


def _refusals(one: Surveyed) -> list[IndexerError]:
    return [error for error in one.errors if not isinstance(error, AwayError)]


def _errors(one: Surveyed) -> list[IndexerError]:
    """Returns an error for each pool that does not take part, and for a target without any."""
    if one.unresolved:
        return [unreachable(one.target, one.unresolved)]
    away = [error for error in one.errors if isinstance(error, AwayError)]
    target = one.target if name_of(one.target) is None or not one.pools else "one of its addresses"
    told: list[IndexerError] = [unreachable(target, str(error)) for error in away]
    if not told and not one.errors and not one.pools:
        told = [unreachable(one.target, "it did not answer in time")]
    return [*_refusals(one), *told]


def _check_one_model(pools: dict[str, Pool]) -> None:
    (first, pool), *others = pools.items()
    for target, other in others:
        if other.fingerprint != pool.fingerprint:
            raise ModelMismatchError(
                f"worker {first} serves model {pool.model.label()} and worker {target} serves "
                f"{other.model.label()}; all must serve one model"
            )
