"""Results as a table that a person reads in one look."""

import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

OURS = "embedpool, Parquet → pool → FAISS"
WIRE = "embedpool, the pool through a plain gRPC stream"
BARE = "bare sessions, one pinned process per CPU, tokens ready"

_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8")


def machine() -> dict[str, str]:
    """Returns what a reader must know of the machine to compare figures."""
    info = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    model = next((line.split(":", 1)[1].strip() for line in info.splitlines() if "model name" in line), "?")
    words = set(info.split())
    return {
        "cpu": model,
        "cpus": str(len(os.sched_getaffinity(0))),
        "flags": " ".join(flag for flag in _FLAGS if flag in words),
        "system": f"{platform.system()}, Python {platform.python_version()}",
        "onnxruntime": version("onnxruntime"),
        "date": date.today().isoformat(),
        "load": f"{os.getloadavg()[0]:.1f}",
    }


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Returns the median of the rounds' own ratios."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def markdown(results: Mapping[str, Any]) -> str:
    """Returns the report."""
    facts = results["machine"]
    rounds = len(next(iter(results["rates"].values())))
    flags = facts["flags"] or "none of " + ", ".join(_FLAGS)
    share = ratio(results["rates"][WIRE], results["rates"][BARE])
    lines = [
        f"{facts['cpus']} CPUs of {facts['cpu']} ({flags}), {facts['system']}, {facts['date']}.",
        f"Load average before: {facts['load']} (on a quiet machine near 0; above it, read only the ratios).",
        f"`make bench`: {rounds} interleaved rounds, medians; all-MiniLM-L6-v2, 256 tokens, all CPUs.",
        "",
        f"**{results['documents']} MedQuAD documents, Parquet → FAISS on disk, models loaded beforehand**",
        "",
        "| system | documents/s | embedpool is | cosine with FP32: mean / min |",
        "|---|---|---|---|",
        *_long_rows(results),
        "",
        f"Pool ÷ bare sessions, the same graph on the same texts: **{share:.3f}**.",
        "",
        *_table("from the start of a process, model load included", results["cold"]),
        "",
        *_table(f"{results['short_texts']} short texts (SQuAD questions), best settings", results["short"]),
        "",
        "| one query through gRPC | p50 ms | p99 ms |",
        "|---|---|---|",
        *(
            f"| {name} | {t['p50']:.1f} | {t['p99']:.1f} |"
            for name, t in results["query_milliseconds"].items()
        ),
        "",
        *one_core_table(results["one_core"]),
        "",
        "Versions: " + "; ".join(_versions(results)) + ".",
        "",
    ]
    return "\n".join(lines)


def _long_rows(results: Mapping[str, Any]) -> list[str]:
    rates = results["rates"]
    rows = []
    for name in sorted(rates, key=lambda name: -statistics.median(rates[name])):
        notes = [note for note in ("documented", "best") if name in results[note]]
        label = f"{name} ({', '.join(notes)})" if notes else name
        cosine = results["cosine_with_fp32"].get(name)
        shown = f"{cosine['mean']:.4f} / {cosine['min']:.4f}" if cosine else ""
        times = "" if name in (OURS, WIRE, BARE) else f"{ratio(rates[OURS], rates[name]):.2f}×"
        bold = "**" if name == OURS else ""
        rows.append(f"| {bold}{label}{bold} | {statistics.median(rates[name]):.1f} | {times} | {shown} |")
    return rows


def _table(title: str, rates: Mapping[str, Sequence[float]]) -> list[str]:
    rows = [f"| {title} | documents/s | embedpool is |", "|---|---|---|"]
    for name in sorted(rates, key=lambda name: -statistics.median(rates[name])):
        times = "" if name == OURS else f"{ratio(rates[OURS], rates[name]):.2f}×"
        rows.append(f"| {name} | {statistics.median(rates[name]):.1f} | {times} |")
    return rows


def _versions(results: Mapping[str, Any]) -> list[str]:
    seen = {f"embedpool's onnxruntime {results['machine']['onnxruntime']}": None}
    for versions in results["versions"].values():
        seen |= {f"{name} {number}": None for name, number in versions.items()}
    return list(seen)


def one_core_table(found: Mapping[str, Any]) -> list[str]:
    """Returns the served graph on one core: what `one_core.measure` found, also after a trip through JSON."""
    lines = [
        "| one text, one core | PyTorch FP32 | ONNX FP32 | served | of torch | of FP32 | in integers |",
        "|---|---|---|---|---|---|---|",
    ]
    for length, times in found["milliseconds"].items():
        theirs, fp32, ours = (times[name] for name in ("PyTorch FP32", "ONNX FP32", "served"))
        share = found["integer_share"][length]
        lines.append(
            f"| {length} tokens | {theirs:.2f} | {fp32:.2f} | {ours:.2f} | {ours / theirs:.2f} "
            f"| {ours / fp32:.2f} | {share:.2f} of its time |"
        )
    size = found["bytes"]
    share = size["served"] / size["ONNX FP32"]
    lines += ["", f"File: {size['served'] / 1e6:.1f} MB, {share:.3f} of FP32's.", ""]
    lines += ["| short texts, tokens/s on one core | alone | in groups | |", "|---|---|---|---|"]
    for length, rates in found["short_tokens_per_second"].items():
        gain = rates["grouped"] / rates["alone"]
        lines.append(f"| {length} tokens | {rates['alone']:.0f} | {rates['grouped']:.0f} | {gain:.2f}× |")
    return lines
