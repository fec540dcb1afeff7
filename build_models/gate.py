"""The gate: the worst set decides whether a candidate may be served."""

from collections.abc import Sequence

from build_models.evaluate import GATE_MEASURE, SetQuality


def worst(qualities: Sequence[SetQuality]) -> SetQuality:
    """Returns the set on which a candidate keeps the least."""
    return min(qualities, key=lambda quality: quality.retention)


def refusal(qualities: Sequence[SetQuality], min_retention: float) -> str | None:
    """Returns why a candidate may not be served; None if it may."""
    quality = worst(qualities)
    if quality.retention >= min_retention:
        return None
    return (
        f"{GATE_MEASURE} on {quality.name} falls from {quality.reference[GATE_MEASURE]:.4f} to "
        f"{quality.candidate[GATE_MEASURE]:.4f}: {quality.retention:.4f} kept, {min_retention:.4f} wanted"
    )
