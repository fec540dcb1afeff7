"""The gate: the worst set decides whether a candidate may be served."""

from collections.abc import Sequence

from build_models.quality.evaluate import GATE_MEASURE, SetQuality


def worst(qualities: Sequence[SetQuality]) -> SetQuality:
    """Returns the set on which a candidate keeps the least."""
    return min(qualities, key=lambda quality: quality.retention)


def refusal(qualities: Sequence[SetQuality], min_retention: float, min_cosine: float) -> str | None:
    """Returns why a candidate may not be served; None if it may.

    The ranking decides; the cosine keeps out a model that ranks a set by luck with vectors of its own.
    """
    quality = worst(qualities)
    if quality.retention < min_retention:
        return (
            f"{GATE_MEASURE} on {quality.name} falls from {quality.reference[GATE_MEASURE]:.4f} to "
            f"{quality.candidate[GATE_MEASURE]:.4f}: {quality.retention:.4f} kept, {min_retention:.4f} wanted"
        )
    quality = min(qualities, key=lambda quality: quality.document_cosines.mean)
    if quality.document_cosines.mean < min_cosine:
        return (
            f"the vectors of {quality.name} turn away from FP32's: mean cosine "
            f"{quality.document_cosines.mean:.4f}, wanted {min_cosine:.4f}"
        )
    return None
