"""The gate: the worst set decides whether a candidate may be served. Pure: figures in, a reason out."""

from collections.abc import Sequence
from dataclasses import dataclass

from build_models.errors import BuildError
from build_models.quality.figures import GATE_MEASURE, Invariance, SetQuality


@dataclass(frozen=True)
class Gate:
    """What a candidate must keep on every set; each from 0 (asks nothing) to 1.

    Attributes:
        min_retention: Share of the FP32 model's nDCG@10.
        min_bound: Lower 95 % bound of that share over samples of queries; also the share that is kept where
            one of both models made the index and the other asks.
        min_cosine: Mean cosine between served and FP32 vectors of documents.
        min_overlap: Share of the ten best that are among the FP32 model's ten best.
    """

    min_retention: float = 0.99
    # A sound INT8 model must not fail by the choice of 1,000 docstrings: over 60 such samples the bound of
    # all-MiniLM-L6-v2 (int8-dynamic) was .995 on average, standard deviation .004, and .986 at worst.
    min_bound: float = 0.98
    # INT8 of sound models measures .99 and more; one that lost its vectors may still rank a set by luck.
    min_cosine: float = 0.95
    # nDCG sees what was judged; this sees every answer that changes. Measured with all-MiniLM-L6-v2 on three
    # sets: one scale a tensor and 7-bit weights have .89 to .92, scales a token and 8 bits .95 to .97.
    min_overlap: float = 0.92

    def __post_init__(self) -> None:
        for name, value, kind in (
            ("min-retention", self.min_retention, "share"),
            ("min-bound", self.min_bound, "share"),
            ("min-cosine", self.min_cosine, "cosine"),
            ("min-overlap", self.min_overlap, "share"),
        ):
            if not 0 <= value <= 1:
                raise BuildError(f"{name} is {value}, wanted a {kind} from 0 to 1")


@dataclass(frozen=True)
class _Demand:
    """One figure of one set, what the gate asks of it, and the refusal to write where it falls short."""

    found: float
    wanted: float
    option: str
    story: str

    @property
    def met(self) -> bool:
        return self.found >= self.wanted  # false for a figure that is no number

    def __str__(self) -> str:
        return f"{self.story}: {self.found:.4f}, {self.wanted:.4f} wanted by {self.option}"


def refusal(qualities: Sequence[SetQuality], gate: Gate, invariance: Invariance | None = None) -> str | None:
    """Returns why a candidate may not be served; None if it may.

    The ranking decides: first what was kept of it, then how far chance may have helped. Mixed searches are
    gated because only they see documents and queries that moved away together, and an FP32 index that is
    already there may be asked with the served model. They are held to `min_bound`: such a move costs tens of
    percent, and two more figures as uncertain as the first, held to `min_retention`, refused one sound INT8
    model in sixty by chance alone. The cosine keeps out a model that ranks a set by luck with vectors of its
    own. Of several sets that fail one demand, the worst is named.

    Args:
        qualities: One for each set, at least one.
        gate: What is asked.
        invariance: Refuses a candidate that is not invariant; None where it was not measured.
    """
    if not qualities:
        raise ValueError("a gate needs at least one measured set")
    for over_sets in zip(*(_demands(quality, gate) for quality in qualities), strict=True):
        failed = [demand for demand in over_sets if not demand.met]
        if failed:
            return str(min(failed, key=lambda demand: demand.found))
    if invariance is not None and invariance.changed:
        return (
            f"{invariance.changed} of {invariance.texts} texts got another vector in another process and "
            f"order (least cosine {invariance.cosine:.6f}): the graph computes something else than its input "
            "decides; a vector must never depend on where it was made"
        )
    return None


def _demands(quality: SetQuality, gate: Gate) -> list[_Demand]:
    before, name = quality.reference[GATE_MEASURE], quality.name
    after = quality.candidate[GATE_MEASURE]
    demands = [
        _Demand(
            quality.retention,
            gate.min_retention,
            "--min-retention",
            f"{GATE_MEASURE} on {name} falls from {before:.4f} to {after:.4f}, share kept",
        ),
        _Demand(
            quality.bound,
            gate.min_bound,
            "--min-bound",
            f"{GATE_MEASURE} on {name} keeps {quality.retention:.4f}, but its {quality.queries} queries only "
            "show a lower 95 % bound of",
        ),
    ]
    demands += [
        _Demand(
            mixed.retention,
            gate.min_bound,
            "--min-bound",
            f"{GATE_MEASURE} on {name} with {mixed.half} falls from {before:.4f} to {mixed.ndcg:.4f}, "
            "share kept",
        )
        for mixed in quality.mixed
    ]
    return [
        *demands,
        _Demand(
            quality.overlap,
            gate.min_overlap,
            "--min-overlap",
            f"the ten best on {name} are not FP32's, overlap@10",
        ),
        _Demand(
            quality.document_cosines.mean,
            gate.min_cosine,
            "--min-cosine",
            f"the vectors of {name} turn away from FP32's, mean cosine",
        ),
    ]
