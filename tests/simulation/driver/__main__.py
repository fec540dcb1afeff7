"""Shows where a run saturates: `python -m tests.simulation.driver [--plot docs/scaling.png]`.

Costs are measured here with the run's own code, in CPU time; workers, drivers and the disk are simulated with
them. `--document-us` and `--rate` are what `python -m indexer estimate` says of a pool and its documents.
"""

from pathlib import Path

import click

from tests.simulation.driver import costs
from tests.simulation.driver.history import History, Load, Simulation
from tests.simulation.driver.plot import draw

WORKERS = (1, 4, 16, 32, 64, 125, 250, 500, 1000, 2000, 4000)
DRIVERS = (1, 4, 16, 64)
SECONDS = 90.0  # of virtual time for each point


@click.command()
@click.option(
    "--most-documents", default=10**7, show_default=True, help="Of the largest plan; 10^9 takes minutes."
)
@click.option(
    "--most-units", default=10_000, show_default=True, help="Committed units of the largest folder."
)
@click.option("--rate", default=60.0, show_default=True, help="Documents a second of a worker, two cores.")
@click.option("--document-us", default=200.0, show_default=True, help="CPU time of a run for a document, µs.")
@click.option(
    "--fsync-ms", type=float, help="Of the shared disk.  [default: a quarter of a commit, measured]"
)
@click.option(
    "--plot", type=click.Path(path_type=Path), help="Draw throughput over workers, and costs, as PNG."
)
def main(
    most_documents: int,
    most_units: int,
    rate: float,
    document_us: float,
    fsync_ms: float | None,
    plot: Path | None,
) -> None:
    """Measure what a run's own work costs, and simulate runs of up to 4,000 workers with that."""
    plans = [costs.plan_costs(most_documents // part, 2048) for part in (100, 10, 1)]
    plans.append(costs.plan_costs(most_documents, 16_384))
    for one in plans:
        click.echo(
            f"plan of {one.documents:,} documents, {one.units:,} units: made in {one.make:.2f} s, written in "
            f"{one.write:.2f}, loaded in {one.load:.2f}; {one.file_bytes / 1e6:,.1f} MB, "
            f"{one.memory_bytes / one.units:,.0f} bytes of memory a unit"
        )
    folders = [costs.folder_costs(most_units // part) for part in (10, 3, 1)]
    for folder in folders:
        click.echo(
            f"{folder.units:,} committed units, each: receipt read in {1e6 * folder.read:.0f} µs, drawn and "
            f"passed in {1e6 * folder.draw:.0f} µs, digest {1e6 * folder.digest:.1f} µs, "
            f"{folder.memory:,.0f} bytes of memory"
        )
    for held in (10, 1_000, 5_000):
        click.echo(f"a claim beside {held:,} that others hold: {1e6 * costs.claim_costs(held):.1f} µs")
    for texts in (100_000, 1_000_000):
        cpu, size = costs.seen_costs(texts)
        click.echo(f"noting {texts:,} texts: {1e6 * cpu:.1f} µs and {size:.1f} bytes each")
    commits = [costs.commit_costs(rows) for rows in (256, 2048, 8192)]
    for commit in commits:
        click.echo(
            f"commit of {commit.rows:,} rows: {1e3 * commit.cpu:.1f} ms of CPU time, at least "
            f"{1e3 * commit.clock:.1f} ms by the clock"
        )
    usual = commits[1]
    fsync = (usual.clock - usual.cpu) / 4 if fsync_ms is None else fsync_ms / 1000
    load = Load(
        1,
        rate=rate,
        document_cpu=document_us / 1e6,
        commit_cpu=usual.cpu,
        fsync=max(fsync, 1e-5),
        seconds=SECONDS,
    )
    found = simulated(load)
    for (drivers, workers), history in found.items():
        click.echo(
            f"{drivers:>3} runs, {workers:>5,} workers: {history.documents:>9,.0f} documents/s, runs' cores "
            f"{100 * history.cpu:3.0f} %, disk {100 * history.disk:3.0f} %; limit: {history.limit}"
        )
    if plot is not None:
        draw(load, found, plot)


def simulated(load: Load) -> dict[tuple[int, int], History]:
    """Returns what each number of drivers and workers does."""
    found = {}
    for drivers in DRIVERS:
        for workers in WORKERS:
            if workers >= drivers:
                found[drivers, workers] = Simulation(load.scaled(workers, drivers)).play()
    return found


if __name__ == "__main__":
    main()
