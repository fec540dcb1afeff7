"""What pools are asked for, and what they take."""

from collections.abc import Callable, Mapping

from indexer.client import Access, Chunking, NameConfig, Options, Pool, VectorType
from indexer.client.answers import Answer
from indexer.client.cutting import check_limits
from indexer.client.directory import Directory
from indexer.client.dispatch import Dispatcher
from indexer.config import FlowConfig, PlanConfig
from indexer.documents import Batch
from indexer.embedding.batches import BatchRule
from indexer.errors import ModelMismatchError, PoolError
from indexer.plan import Plan


def plan_dispatcher(
    plan: Plan,
    pools: Mapping[str, Pool],
    access: Access,
    flow: FlowConfig,
    on_answer: Callable[[Batch, Answer], None],
    log: Callable[[str], None],
    names: NameConfig | None = None,
) -> Dispatcher[Batch]:
    """Returns a dispatcher whose answers are vectors of a plan's model, in its type.

    Args:
        plan: What the index holds.
        pools: The pools by target, as they were at the start: batches are cut for them. Whoever joins later
            must serve the same model and take as much.
        access: What opens them.
        flow: Windows and patience.
        on_answer: Called in the loop with each batch and its answer.
        log: Takes a line for people when a pool joins, leaves, goes or comes back.
        names: How names are followed; None for the flow's rate and the system's resolver.
    """
    rule = batch_rule(flow, pools)

    def accept(target: str, pool: Pool) -> None:
        if pool.fingerprint != plan.model.fingerprint:
            raise ModelMismatchError(
                f"worker {target} serves model {pool.fingerprint[:12]}, the index holds "
                f"{plan.model.label()}: start the right worker, or build a new index"
            )
        check_chunking(plan.config, {**pools, f"{target} by now": pool})
        check_limits(target, pool, rule.items, rule.bytes, rule.text_bytes)

    options = Options(
        vector_type=VectorType(plan.config.vector_type.value),
        chunking=_chunking(plan.config),
        separate=plan.config.chunk_tokens > 0,
        # The bytes of an index must not depend on which texts met in a pool.
        exact=True,
    )
    directory = Directory(list(pools), names or NameConfig(refresh_seconds=flow.refresh_seconds), log)
    return Dispatcher(directory, access, accept, plan.model.dim, options, flow, on_answer, log)


def batch_rule(flow: FlowConfig, pools: Mapping[str, Pool]) -> BatchRule:
    """Returns what every one of the pools takes as a batch."""
    return BatchRule(
        items=min(flow.batch_items, *(pool.max_batch_items for pool in pools.values())),
        bytes=min(flow.batch_bytes, *(pool.max_batch_bytes for pool in pools.values())),
        text_bytes=min(min(pool.max_text_bytes, pool.max_batch_bytes) for pool in pools.values()),
    )


def _chunking(config: PlanConfig) -> Chunking | None:
    return Chunking(config.chunk_tokens, config.chunk_overlap) if config.chunk_tokens else None


def check_chunking(config: PlanConfig, pools: Mapping[str, Pool]) -> None:
    """Raises PoolError unless all pools cut texts into chunks alike, and as long as the plan wants them."""
    if not config.chunk_tokens:
        return
    for target, pool in pools.items():
        if config.chunk_tokens > pool.max_tokens:
            raise PoolError(
                f"--chunk-tokens is {config.chunk_tokens}, the model at {target} reads at most "
                f"{pool.max_tokens} tokens: give so many or fewer"
            )
    limits = {pool.max_windows: target for target, pool in pools.items()}
    if len(limits) > 1:
        told = ", ".join(f"{target} {limit}" for limit, target in limits.items())
        raise PoolError(
            f"the workers make different numbers of chunks of a long text ({told}): what is cut would depend "
            "on who answers; start them with the same --max-windows"
        )
