"""What a search saw of each recipe, for the report and the plot."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from build_models.plot import Outcome, Point


@dataclass(frozen=True)
class Trial:
    """One recipe as a search saw it.

    Attributes:
        recipe: Its name.
        milliseconds: Of one document on one core, mean over the lengths of the user's documents.
        relative: The same over the FP32 graph's, timed in turns: what recipes are ordered by.
        model_bytes: Size of its graph.
        overlap: Worst set's overlap@10 with FP32, on a sample; None if it was not measured.
        cosine: Worst set's mean cosine of documents with FP32's, on the sample; None if not measured.
        outcome: What became of it.
        reason: Why, in a few words.
    """

    recipe: str
    milliseconds: float
    relative: float
    model_bytes: int
    overlap: float | None = None
    cosine: float | None = None
    outcome: Outcome = Outcome.PRUNED
    reason: str = "slower than the one that was chosen"


def conclude(trials: Sequence[Trial], refusals: Mapping[str, str | None]) -> tuple[Trial, ...]:
    """Returns the trials with what the gate said of those that got there, fastest first.

    Args:
        trials: In any order.
        refusals: Recipe to why it was refused; None for the one that was chosen.
    """
    concluded = []
    for trial in sorted(trials, key=lambda trial: trial.relative):
        if trial.recipe not in refusals:
            form = trial.overlap is None  # only those that are candidates themselves are compared with FP32
            concluded.append(replace(trial, reason="a form that saved too little") if form else trial)
            continue
        refusal = refusals[trial.recipe]
        outcome = Outcome.CHOSEN if refusal is None else Outcome.REFUSED
        reason = "the fastest that met the gate" if refusal is None else refusal
        concluded.append(replace(trial, outcome=outcome, reason=reason))
    return tuple(concluded)


def points(trials: Sequence[Trial]) -> list[Point]:
    """Returns the points of the plot, overlap over time: those recipes whose overlap was measured."""
    return [
        Point(trial.recipe, trial.milliseconds, trial.overlap, trial.outcome)
        for trial in trials
        if trial.overlap is not None
    ]
