"""The road of an estimate: look at the inputs, embed a sample for a while, apply the rules of an index."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Console

from indexer.client import Access, Pool
from indexer.config import RunConfig
from indexer.embedding.memory import check_unit_memory
from indexer.embedding.pools import check_chunking
from indexer.embedding.reach import reach
from indexer.errors import ConfigError, InputError
from indexer.estimating import build_time
from indexer.estimating.forecast import Machines, Observation, Volume, machines_within, on_machines, volume
from indexer.estimating.index_forecast import IndexForecast, forecast_index
from indexer.estimating.measuring import Observed, measure
from indexer.estimating.rates import Steady, steady
from indexer.estimating.sample import Sample, read_sample
from indexer.estimating.sizes import file_sizes
from indexer.index.machine import cpu_name
from indexer.inputs import files as inputs
from indexer.plan import InputFile, Plan, make_plan
from indexer.progress import Stage, say

SHARES = (0.5, 0.9, 0.99, 1.0)  # quantiles of tokens that are shown


@dataclass(frozen=True)
class Question:
    """What is asked.

    Attributes:
        run: The run that is estimated; its output is not used.
        seconds: How long to measure.
        documents: How many there will be; None for the rows of the inputs.
        machines: For how many machines to tell the time.
        cores_each: Cores of a machine, a process each; None for the processes of the pool that is measured.
        within_hours: In how many hours it must be done; None for no wish.
        core_hour_price: Price of a core for an hour, in any currency; None to leave it out.
        queries_per_second: Searches a second that are to be served; None to leave it out.
    """

    run: RunConfig
    seconds: float = 60.0
    documents: int | None = None
    machines: tuple[int, ...] = (1, 2, 4, 8)
    cores_each: int | None = None
    within_hours: float | None = None
    core_hour_price: float | None = None
    queries_per_second: float | None = None

    def __post_init__(self) -> None:
        """Checks the fields; raises ConfigError."""
        for name, value in (
            ("seconds", self.seconds),
            ("documents", self.documents),
            ("cores per machine", self.cores_each),
            ("within", self.within_hours),
            ("price per core hour", self.core_hour_price),
            ("queries per second", self.queries_per_second),
            *(("machines", one) for one in self.machines),
        ):
            if value is not None and not 0 < value < float("inf"):
                raise ConfigError(f"{name} is {value}, wanted above 0")


@dataclass(frozen=True)
class Estimate:
    """What was measured and what follows.

    Attributes:
        question: What was asked.
        pools: With what it was measured, by address.
        cpu: Of this machine; that of other machines is not known here.
        sample: What was embedded.
        seen: What was seen.
        steady: How fast that was.
        observation: What of it the rest is computed from.
        tokens: Quantiles `SHARES` of the tokens of a vector, and their mean.
        volume: What is to be done, and what it leaves.
        index: The FAISS index.
        cores_each: Cores of each machine.
        machines: What each number of machines takes.
        needed: The fewest machines for the wish; None for no wish, 0 where no number is enough.
    """

    question: Question
    pools: Mapping[str, Pool]
    cpu: str
    sample: Sample
    seen: Observed
    steady: Steady
    observation: Observation
    tokens: tuple[tuple[float, ...], float]
    volume: Volume
    index: IndexForecast
    cores_each: int
    machines: tuple[Machines, ...]
    needed: int | None


def run_estimate(question: Question, targets: Sequence[str], access: Access, console: Console) -> Estimate:
    """Measures the pools at `targets` with a sample of the inputs, and computes what was asked.

    Raises:
        IndexerError: Any of the tree in `errors`.
    """
    config = question.run
    files, skipped = inputs.describe(inputs.resolve(config.inputs), config.plan, config.on_error)
    for file in skipped:
        say(console, f"warning: left out: {file.reason}")
    pools = reach(targets, access, min(config.flow.connect_seconds, config.flow.retry_seconds), console)
    check_chunking(config.plan, pools)
    plan = make_plan(files, config.plan, next(iter(pools.values())).model)
    largest = max((unit.rows for unit in plan.units), default=0)
    check_unit_memory(config.flow, config.plan, largest, plan.model.dim)
    sample = read_sample(files, config.plan, config.on_error)
    seen = _measured(question, sample, pools, access, console)
    return _computed(question, pools, files, plan, sample, seen)


def _measured(
    question: Question, sample: Sample, pools: Mapping[str, Pool], access: Access, console: Console
) -> Observed:
    """Embeds the sample once for nothing (pools warm up, caches fill), then for as long as was asked."""
    say(
        console,
        f"measuring for {question.seconds:g} s with {len(sample.rows):,} of {sample.total:,} rows",
    )
    with Stage(console, "measuring", len(sample.rows)) as stage:
        seen = measure(question.run, sample, pools, access, question.seconds, stage)
    if not seen.documents:
        raised = seen.rejects[0].reason if seen.rejects else "the pool answered nothing in the time"
        raise InputError(
            f"no document of the sample got a vector ({raised}): there is nothing to estimate from; "
            "give more --seconds, or other columns"
        )
    return seen


def _computed(
    question: Question,
    pools: Mapping[str, Pool],
    files: Sequence[InputFile],
    plan: Plan,
    sample: Sample,
    seen: Observed,
) -> Estimate:
    processes = sum(max(1, pool.processes) for pool in pools.values())
    fast = steady(seen.answers, processes + 1)
    observation = _observation(plan, seen, fast, processes)
    rows = sum(unit.rows for unit in plan.units)
    much = volume(
        observation,
        question.documents or rows,
        tuple(file.rows for file in files),
        question.run.plan.unit_rows,
    )
    cores = question.cores_each or max(1, processes // len(pools))
    index = forecast_index(question.run, much, plan.model.dim, cores, build_time.core_flops())
    machines = [
        on_machines(observation, much, count, cores, index.seconds)
        for count in sorted(set(question.machines))
    ]
    needed = None
    if question.within_hours is not None:
        within = machines_within(observation, much, 3600 * question.within_hours, cores, index.seconds)
        needed = within or 0
        machines += [on_machines(observation, much, within, cores, index.seconds)] if within else []
    counts = np.concatenate(seen.token_counts)
    return Estimate(
        question=question,
        pools=pools,
        cpu=cpu_name(),
        sample=sample,
        seen=seen,
        steady=fast,
        observation=observation,
        tokens=(tuple(float(one) for one in np.quantile(counts, SHARES)), float(counts.mean())),
        volume=much,
        index=index,
        cores_each=cores,
        machines=tuple(dict.fromkeys(machines)),
        needed=needed,
    )


def _observation(plan: Plan, seen: Observed, fast: Steady, processes: int) -> Observation:
    sent = sum(answer.documents for answer in seen.answers)
    unsent = len(seen.rejects) - (sent - seen.documents)  # the pool's refusals were sent
    return Observation(
        processes=processes,
        documents=fast.documents,
        vectors_each=seen.vectors / seen.documents,
        rejected=len(seen.rejects) / (sent + unsent),
        unsent=unsent / (sent + unsent),
        sizes=file_sizes(plan, seen),
        driver_seconds=seen.driver_seconds / sent,
    )
