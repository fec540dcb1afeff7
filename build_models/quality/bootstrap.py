"""How much of a retention may be chance: a paired bootstrap over queries."""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap

CONFIDENCE = 0.95  # of the one-sided bound
_RESAMPLES = 2000  # the bound then moves by a twentieth of its distance from the retention with the seed
_SEED = 20  # arbitrary: the same figures give the same bound
_BATCH_VALUES = 1 << 20  # resampled values held at once, to bound memory: 8 MiB for each model


def retention_bound(reference: NDArray[np.float64], candidate: NDArray[np.float64]) -> float:
    """Returns the one-sided lower 95 % bound of `candidate.mean() / reference.mean()`.

    Queries are drawn with replacement, the same ones for both models, because a query that is hard for one
    is hard for the other; the bound is the 5th percentile of the ratios of means. (Efron and Tibshirani, An
    Introduction to the Bootstrap, chapter 13.) On made-up rankings it lay below the truth in 94.5 % of
    600 trials with 300 queries, the BCa form in 94.7 %, which gives no number where every query keeps
    the same. One-sided, because only a loss is a reason to refuse.

    Args:
        reference: float64 `[queries]`, the FP32 model's value for each query, 0 to 1, not all 0.
        candidate: float64 `[queries]`, the candidate's for the same queries.
    """
    if len(reference) == 1:  # nothing to draw from
        return float(candidate[0] / reference[0])
    result = bootstrap(
        (candidate, reference),
        _ratio_of_means,
        paired=True,
        vectorized=True,
        n_resamples=_RESAMPLES,
        batch=max(1, _BATCH_VALUES // len(reference)),
        method="percentile",
        confidence_level=CONFIDENCE,
        alternative="greater",
        rng=np.random.default_rng(_SEED),
    )
    return float(result.confidence_interval.low)


def _ratio_of_means(
    candidate: NDArray[np.float64], reference: NDArray[np.float64], axis: int
) -> NDArray[np.float64]:
    wanted, found = reference.mean(axis=axis), candidate.mean(axis=axis)
    # Where a draw holds no query that FP32 answers, it shows nothing kept.
    ratio: NDArray[np.float64] = np.divide(found, wanted, out=np.zeros_like(wanted), where=wanted > 0)
    return ratio
