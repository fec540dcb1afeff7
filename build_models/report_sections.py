"""Figures of one candidate as Markdown tables for people. Pure: figures in, text out."""

from collections.abc import Iterable, Sequence

from build_models.parity import ShapeParity
from build_models.quality.figures import GATE_MEASURE, Bucket, Cosines, Invariance, Mixed, SetQuality
from build_models.quality.gate import Gate
from build_models.quality.judgements import MIN_QUERIES
from build_models.trials import Trial

_NONE = "–"
_SIDES = {
    Mixed.FP32_DOCUMENTS: "FP32's documents, its queries",
    Mixed.FP32_QUERIES: "its documents, FP32's queries",
}


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a Markdown table; every row has as many cells as the header."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def beside(label: str, wanted: float, found: float, digits: int) -> tuple[str, str, str, str]:
    """Returns the cells of a figure: label, FP32's, the candidate's, and their ratio."""
    ratio = f"{found / wanted:.4f}" if wanted else _NONE
    return (label, f"{wanted:.{digits}f}", f"{found:.{digits}f}", ratio)


def sets_table(qualities: Sequence[SetQuality], gate: Gate) -> str:
    """Returns what was kept on each set, and under it what the gate asks of every set."""
    header = ["set", "documents", "queries", f"{GATE_MEASURE} kept", "lower 95 % bound", "overlap@10"]
    header += ["cosine of documents: mean / p1 / least", "of queries"]
    rows = [
        (
            quality.name,
            str(quality.documents),
            str(quality.queries),
            f"{quality.retention:.4f}",
            f"{quality.bound:.4f}",
            f"{quality.overlap:.4f}",
            _three(quality.document_cosines),
            _three(quality.query_cosines),
        )
        for quality in qualities
    ]
    asked = [f"≥ {value:g}" if value else _NONE for value in (gate.min_retention, gate.min_bound)]
    asked += [f"≥ {value:g}" if value else _NONE for value in (gate.min_overlap, gate.min_cosine)]
    return table(header, [*rows, ("wanted of each", "", "", *asked, "")])


def mixed_table(qualities: Sequence[SetQuality]) -> str:
    """Returns how searches fare whose index one model made and whose queries the other."""
    rows = [
        (
            quality.name,
            _SIDES[mixed.half],
            f"{mixed.ndcg:.4f}",
            f"{mixed.retention:.4f}",
            f"{mixed.overlap:.4f}",
        )
        for quality in qualities
        for mixed in quality.mixed
    ]
    return table(("set", "one model's index, the other's queries", GATE_MEASURE, "kept", "overlap@10"), rows)


def lengths_table(qualities: Sequence[SetQuality]) -> str:
    """Returns the figures of each length of text; a share kept of too few queries to mean it is left out."""
    header = ["set", "tokens", "queries", f"{GATE_MEASURE} kept (of {MIN_QUERIES} queries or more)"]
    header += ["overlap@10", "cosine: mean / least", "documents", "cosine: mean / least"]
    rows = [
        (
            quality.name,
            _length(bucket),
            str(bucket.queries),
            _share(bucket.retention if bucket.queries >= MIN_QUERIES else None),
            _share(bucket.overlap),
            _two(bucket.query_cosines),
            str(bucket.documents),
            _two(bucket.document_cosines),
        )
        for quality in qualities
        for bucket in quality.buckets
    ]
    return table(header, rows)


def invariance_line(found: Invariance, group_cosine: float, max_group_tokens: int) -> str:
    """Returns in words whether a text's vector depends on the text alone."""
    outcome, shared = "the same bytes", "no two texts share a run"
    if found.changed:
        outcome = f"{found.changed} got another vector, least cosine {found.cosine:.6f}"
    if max_group_tokens:
        shared = f"texts of equal length share a run of up to {max_group_tokens} tokens"
    return (
        f"Invariance: {found.texts} texts of every length, one at a time and again, shuffled, in other "
        f"processes: {outcome}. "
        f"Beside others of its length in one run: least cosine {group_cosine:.6f}; {shared}."
    )


def parity_table(parity: Sequence[ShapeParity]) -> str:
    """Returns how far the FP32 graph is from torch."""
    rows = [
        (f"{texts} × {tokens}{' padded' if result.padded else ''}", f"{result.difference:.1e}")
        for result in parity
        for texts, tokens in (result.shape,)
    ]
    return table(("texts × tokens", "largest difference"), rows)


def _length(bucket: Bucket) -> str:
    if bucket.last is None:
        return f"{bucket.first} and more"
    return f"≤ {bucket.last}" if bucket.first <= 1 else f"{bucket.first}–{bucket.last}"


def _share(value: float | None) -> str:
    return _NONE if value is None else f"{value:.4f}"


def _two(cosines: Cosines | None) -> str:
    return _NONE if cosines is None else f"{cosines.mean:.5f} / {cosines.min:.5f}"


def _three(cosines: Cosines) -> str:
    return f"{cosines.mean:.5f} / {cosines.p1:.5f} / {cosines.min:.5f}"


def trials_table(trials: Sequence[Trial]) -> str:
    """Returns every recipe that was timed, fastest first."""
    rows = [
        (
            trial.recipe,
            f"{trial.milliseconds:.2f}",
            f"{trial.relative:.2f}",
            f"{trial.model_bytes / 1_000_000:.1f}",
            "" if trial.overlap is None else f"{trial.overlap:.4f}",
            "" if trial.cosine is None else f"{trial.cosine:.5f}",
            f"{trial.outcome}: {trial.reason}",
        )
        for trial in trials
    ]
    header = ("recipe", "ms a document", "of FP32's", "MB", "overlap@10, sample", "cosine, sample", "outcome")
    return table(header, rows)
