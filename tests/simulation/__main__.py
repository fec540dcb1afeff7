"""Prints what callers of a large pool would see: `python -m tests.simulation --processes 64 --clients 10000`.

The scheduler is the real one, processes and callers are simulated: latencies follow from who runs next, not
from this machine. The time of a decision is measured here.
"""

from dataclasses import replace

import click

from tests.simulation.pool import History, Load, Simulation, run_seconds
from worker.scheduling.scheduler import Priority

SHARES = (0.5, 0.9, 0.99, 0.999, 1.0)


@click.command()
@click.option("--processes", default=64, show_default=True, help="Compute processes, one core each.")
@click.option("--clients", default=10_000, show_default=True, help="Callers; a tenth are bulk streams.")
@click.option("--query-load", default=0.5, show_default=True, help="Share of the pool's time for queries.")
@click.option("--bulk-share", default=0.1, show_default=True, help="Share of bulk work under a flood.")
@click.option("--max-tokens", default=256, show_default=True, help="Tokens of the longest document.")
@click.option("--seconds", default=10.0, show_default=True, help="Virtual seconds.")
@click.option("--seed", default=0, show_default=True, help="Decides lengths and times of arrival.")
def main(
    processes: int,
    clients: int,
    query_load: float,
    bulk_share: float,
    max_tokens: int,
    seconds: float,
    seed: int,
) -> None:
    """Simulate a pool under saturating bulk work and queries that come at random."""
    streams = max(2, clients // 10)
    load = Load(processes, streams, query_load, bulk_share, seconds, max_tokens=max_tokens, seed=seed)
    click.echo(
        f"{processes} processes, {streams} bulk streams that always have work, {clients - streams} who query"
    )
    history = Simulation(load).play()
    _print_latency(load, history)
    _print_bulk(load, history)
    click.echo(
        f"scheduler: {1e6 * history.call_seconds / history.calls:.1f} µs a call, {history.calls} calls"
    )


def _print_latency(load: Load, history: History) -> None:
    longest = load.longest_run
    click.echo(
        f"queries: {len(history.latencies)} in {load.seconds:g} s, at most {history.most_waiting} waiting"
    )
    click.echo(
        f"longest run {1e3 * longest:.1f} ms; a query of 10 tokens alone {1e3 * run_seconds(10):.1f} ms"
    )
    click.echo(
        "latency         " + "".join(f"{f'p{100 * share:g}':>9}" for share in SHARES[:-1]) + f"{'max':>9}"
    )
    quantiles = history.quantiles(SHARES)
    click.echo("  ms            " + "".join(f"{1e3 * value:>9.2f}" for value in quantiles))
    click.echo("  longest runs  " + "".join(f"{value / longest:>9.2f}" for value in quantiles))


def _print_bulk(load: Load, history: History) -> None:
    alone = Simulation(replace(load, query_load=0.0, seconds=min(load.seconds, 3.0))).play()
    before = sum(alone.bulk_tokens.values()) / alone.seconds
    bulk = sum(history.bulk_tokens.values())
    left = before * (1 - history.busy[Priority.QUERY] / (load.processes * load.seconds))
    click.echo(
        f"bulk: {before:,.0f} tokens/s alone, {bulk / load.seconds:,.0f} with queries, whose own time leaves "
        f"{left:,.0f}: {100 * (bulk / load.seconds / left - 1):+.1f} %"
    )
    share = bulk / (bulk + history.query_tokens)
    click.echo(
        f"bulk's share of the tokens: {100 * share:.1f} %; promised in a flood: {100 * load.bulk_share:g} %"
    )
    served = [history.bulk_tokens[stream] for stream in range(load.bulk_streams)]
    longest = load.max_tokens
    click.echo(
        f"fairness: each stream got {min(served)} to {max(served)} tokens, half of them in texts of "
        f"{longest * 3 // 4} to {longest}, half in texts of 8 to {longest // 4}"
    )


if __name__ == "__main__":
    main()
