"""Latency under load as a table and as a picture."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

mpl.use("Agg")

import matplotlib.pyplot as plt

_LABELS = {"0": "idle", "1": "1 bulk client", "4": "4 bulk clients"}
_COLORS = {"embedpool": "#0a6e5c", "infinity": "#b3541e"}
_STYLES = {"0": ":", "1": "--", "4": "-"}
_NAMES = {"embedpool": "embedpool", "infinity": "Infinity 0.0.78 (torch)"}
_HEAD = (
    "10 queries/s (open loop, timed from when each was due) beside clients that send batches of 32 MedQuAD "
    "documents back to back, 256 tokens at most; {rounds} interleaved round(s)."
)
_LIMIT_RUNS = 1.5  # p99 under load, in longest runs
_LIMIT_ALONE_MS = 1.0  # gRPC's own part of a query's median
_LIMIT_LOSS = 0.03  # of bulk documents/s, beside the queries' own compute


def markdown(results: Mapping[str, Any]) -> str:
    """Returns the report."""
    lines = [
        _HEAD.format(rounds=results["rounds"]),
        f"Load average before: {results['machine']['load']}; nothing else may run beside it.",
        "",
        "| system | load | query p50 ms | p99 ms | max ms | documents/s | with the queries |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, loads in results["systems"].items():
        for clients, load in loads.items():
            times = load["milliseconds"]
            p50, p99 = np.percentile(times, [50, 99])
            rates = [_median(load[key]) for key in ("alone", "with_queries")] if clients != "0" else ["", ""]
            lines.append(
                f"| {_NAMES[name]} | {_LABELS[clients]} | {p50:.1f} | {p99:.1f} | {max(times):.1f} "
                f"| {rates[0]} | {rates[1]} |"
            )
    return "\n".join([*lines, "", *(f"- {line}" for line in _verdicts(results)), ""])


def _median(values: Sequence[float]) -> str:
    measured = [value for value in values if not np.isnan(value)]
    return f"{statistics.median(measured):.1f}" if measured else "too few batches"


def _verdicts(results: Mapping[str, Any]) -> list[str]:
    """Returns each goal with what was measured; a goal that was missed says so."""
    lines = []
    grpc, bare = (statistics.median(results["sequential"][name]) for name in ("gRPC", "bare session"))
    lines.append(
        f"One query after the other, median: gRPC {grpc:.2f} ms, the bare session {bare:.2f} ms: "
        f"{_held(grpc - bare, _LIMIT_ALONE_MS)} {grpc - bare:.2f} ms apart (goal: at most {_LIMIT_ALONE_MS})."
    )
    for clients, load in results["systems"]["embedpool"].items():
        if clients == "0":
            continue
        p99, run = np.percentile(load["milliseconds"], 99), max(load["longest_run"])
        typical = statistics.median(load["longest_run"])
        lines.append(
            f"{_LABELS[clients]}: p99 {p99:.1f} ms is {p99 / run:.2f} of the longest run ({run:.1f} ms; the "
            f"longest document's median {typical:.1f} ms): {_held(p99 / run, _LIMIT_RUNS)} "
            f"(goal: at most {_LIMIT_RUNS})."
        )
        loss = float(np.nanmedian(1 - np.divide(load["with_queries"], load["alone"])))
        share, asker = (statistics.median(load[key]) for key in ("query_share", "asker_share"))
        lines.append(
            f"{_LABELS[clients]}: bulk loses {100 * loss:.1f} % to the queries, whose own runs take "
            f"{100 * share:.1f} % and whose sender, on the same CPUs, {100 * asker:.1f} %: "
            f"{_held(loss - share - asker, _LIMIT_LOSS)} (goal: at most {100 * _LIMIT_LOSS:.0f} % more)."
        )
    return lines


def _held(value: float, limit: float) -> str:
    return "held," if value <= limit else "**missed**,"


def draw(results: Mapping[str, Any], path: Path) -> None:
    """Writes the percentile curves of all systems and loads as a PNG."""
    figure, axes = plt.subplots(figsize=(9, 5.4), dpi=130)
    ends = []
    for name, loads in results["systems"].items():
        for clients, load in loads.items():
            times = np.sort(load["milliseconds"])
            share = 100 * (np.arange(len(times)) + 0.5) / len(times)
            axes.plot(share, times, color=_COLORS[name], linestyle=_STYLES[clients], linewidth=2)
            ends.append((float(times[-1]), f"{_NAMES[name]}, {_LABELS[clients]}", _COLORS[name]))
    axes.set_yscale("log")
    axes.set_xlim(0, 100)
    _label_ends(axes, ends)
    axes.set_xticks([0, 25, 50, 75, 90, 99])
    axes.set_xlabel("percent of the queries that were answered within …")
    axes.set_ylabel("milliseconds (log scale)")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}")
    axes.grid(visible=True, which="major", alpha=0.35)
    axes.grid(visible=True, which="minor", axis="y", alpha=0.12)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.set_title(
        "How long a query takes while others send documents\n"
        "all-MiniLM-L6-v2, 10 queries/s, bulk clients send batches of 32 back to back",
        loc="left",
        fontsize=11,
    )
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    plt.close(figure)


def _label_ends(axes: Any, ends: Sequence[tuple[float, str, str]]) -> None:
    """Writes each curve's name beside its end, pushed apart where they would overlap."""
    low, high = (float(np.log10(bound)) for bound in axes.get_ylim())
    step = 0.05 * (high - low)
    at = -np.inf
    for value, label, color in sorted(ends):
        at = max(float(np.log10(value)), at + step)
        axes.text(101, 10**at, label, color=color, va="center", fontsize=9, clip_on=False)
