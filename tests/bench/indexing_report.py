"""The figures of `indexing` as a table and a picture."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from tests.bench.indexing import SMALL

_LIMIT_GROWTH = 0.97  # of the small runs' rate; the goal
_MIB = 1 << 20
_WINDOWS = 20  # parts of the large run that the picture shows


def markdown(results: Mapping[str, Any]) -> str:
    """Returns the tables of all parts, and whether the goal was met."""
    large, small = results["large"], results["small"]
    middle = {
        key: statistics.median(run[key] for run in small) for key in ("rate", "peak_bytes", "cpu_seconds")
    }
    middle |= {"embedded": SMALL, "stages": {"index": statistics.median(r["stages"]["index"] for r in small)}}
    lines = [
        "| documents | documents/s | peak memory of the indexer, MiB | its CPU ms a document | FAISS, s |",
        "|---|---|---|---|---|",
        *(_row(run) for run in (middle, large)),
        "",
        _growth(results["growth"], [run["rate"] for run in small]),
        f"The same command on the finished index: {results['nothing_left']['seconds']:.1f} s.",
        _resumed(results["resume"]),
        _updated(results["update"]),
    ]
    return "\n".join(lines) + "\n"


def _row(run: Mapping[str, Any]) -> str:
    cells = (
        f"{run['embedded']:,}",
        f"{run['rate']:.0f}",
        f"{run['peak_bytes'] / _MIB:.0f}",
        f"{1e3 * run['cpu_seconds'] / run['embedded']:.2f}",
        f"{run['stages']['index']:.1f}",
    )
    return f"| {' | '.join(cells)} |"


def _growth(share: float, rates: Sequence[float]) -> str:
    held = "held" if share >= _LIMIT_GROWTH else "**missed**"
    return (
        f"Growth: {share:.3f} of the small runs' documents/s: {held} (goal: at least {_LIMIT_GROWTH}); "
        f"the {len(rates)} small runs lie between {min(rates):.0f} and {max(rates):.0f}."
    )


def _resumed(resume: Mapping[str, Any]) -> str:
    undisturbed = statistics.mean(resume["undisturbed"])
    same = "byte for byte the same" if resume["same"] else "**another one**"
    return (
        f"{resume['kills']} SIGKILLs: {resume['killed']:.1f} s in place of {undisturbed:.1f} s, "
        f"{(resume['killed'] - undisturbed) / resume['kills']:.1f} s a kill; the index is {same}."
    )


def _updated(update: Mapping[str, Any]) -> str:
    first, again = update["first"], update["update"]
    return (
        f"One file of {update['rows']:,} rows written again: {again['embedded'] - again['reused']:,} texts "
        f"embedded, {again['seconds']:.1f} s in place of {first['seconds']:.1f} s."
    )


def draw(results: Mapping[str, Any], path: Path) -> None:
    """Writes the documents/s over the large run, beside those of the small runs, as a PNG."""
    large, small = results["large"], results["small"]
    times = np.asarray(results["committed"])
    share = np.linspace(0, 1, len(times))
    edges = np.linspace(0, 1, _WINDOWS + 1)
    rates = np.diff(edges) / np.diff(np.interp(edges, share, times)) * large["embedded"]
    figure, axes = plt.subplots(figsize=(9, 3.6), dpi=130)
    axes.stairs(rates, edges * large["embedded"] / 1000, color="#1f6f8b", linewidth=2, baseline=None)
    low, high = (bound(run["rate"] for run in small) for bound in (min, max))
    axes.axhspan(low, high, color="#d97b29", alpha=0.25, linewidth=0)
    axes.text(1, low, f" runs of {SMALL:,} documents", color="#a3561a", va="top", fontsize=9)
    axes.set_ylim(0, 1.3 * max(high, float(rates.max())))
    axes.set_xlim(0, large["embedded"] / 1000)
    axes.set_xlabel("thousand documents committed")
    axes.set_ylabel("documents/s")
    axes.grid(visible=True, alpha=0.3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.set_title("Documents/s of one run, as its index grows", loc="left", fontsize=11)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    plt.close(figure)
