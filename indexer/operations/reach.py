"""Which of the pools that a command names answer, and do they serve one model?"""

from collections.abc import Sequence

from rich.console import Console

from indexer.client import Access, Pool, describe
from indexer.errors import ModelMismatchError, PoolError
from indexer.progress import say


def reach(targets: Sequence[str], access: Access, wait_seconds: float, console: Console) -> dict[str, Pool]:
    """Returns the pools that answer, by address; all serve one model.

    Raises:
        PoolError: None answers.
        ModelMismatchError: Two serve different models.
    """
    pools: dict[str, Pool] = {}
    errors = []
    for target in targets:
        try:
            pools[target] = describe(target, access, wait_seconds)
        except PoolError as error:
            errors.append(error)
    if not pools:
        raise errors[0]
    for unreached in errors:
        say(console, f"warning: {unreached}")
    (first, pool), *others = pools.items()
    for target, other in others:
        if other.model.fingerprint != pool.model.fingerprint:
            raise ModelMismatchError(
                f"worker {first} serves model {pool.model.label()} and worker {target} serves "
                f"{other.model.label()}; all must serve one model"
            )
    return pools
