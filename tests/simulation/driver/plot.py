"""Draws what the simulation found."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl

from tests.simulation.driver.history import History, Load

mpl.use("Agg")  # no window, whatever the machine has


def draw(load: Load, found: Mapping[tuple[int, int], History], path: Path) -> None:
    """Writes a PNG: documents a second over workers, a line for each number of runs."""
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    drivers = sorted({key[0] for key in found})
    workers = sorted({key[1] for key in found})
    left.plot(
        workers, [load.rate * count for count in workers], color="0.75", linestyle="--", label="all busy"
    )
    for number in drivers:
        points = [(count, found[number, count]) for count in workers if (number, count) in found]
        label = f"{number} run{'s' if number > 1 else ''}"
        left.plot(
            [count for count, _ in points], [one.documents for _, one in points], marker=".", label=label
        )
        right.plot(
            [count for count, _ in points], [100 * one.cpu for _, one in points], marker=".", label=label
        )
    left.set(xscale="log", yscale="log", xlabel="workers of two cores", ylabel="documents/s")
    right.set(xscale="log", xlabel="workers of two cores", ylabel="busiest run's core, %")
    left.set_title(
        f"{load.rate:g} documents/s a worker, {1e6 * load.document_cpu:.0f} µs of a run's core each"
    )
    right.set_title("what saturates first")
    left.legend()
    for axes in (left, right):
        axes.grid(visible=True, color="0.9")
    figure.savefig(path, dpi=110)
    plt.close(figure)
