"""Every setting of a build."""

from dataclasses import dataclass, field
from pathlib import Path

from build_models.errors import BuildError
from build_models.quality.gate import Gate
from build_models.recipes import Recipe
from worker.bundle import Pooling
from worker.cpu_flags import Cpu, exact_here

# Of the known-item set: a default build ends in about a minute on two cores, and the standard deviation of
# the retention over such samples is .005 (all-MiniLM-L6-v2, int8-dynamic), half of what the gate allows.
KNOWN_ITEM_DOCUMENTS = 1000
SEED = 20  # of every sample; arbitrary


@dataclass(frozen=True)
class BuildConfig:
    """What to build, from what, and how good it must be.

    Attributes:
        model: Folder, hub id, or the name of the packaged model.
        out: Folder of the bundle; must not exist, unless `force` is set and it is a bundle.
        recipes: Tried in this order; the first that meets the gate is written.
        search: Whether the recipes are timed first, in several forms, and tried in the order of their time;
            if the gate refuses every integer recipe, some with parts in floating point are tried too.
        eval_data: Folders of evaluation sets; none for the known-item set.
        eval_documents: Documents of each set at most, those judged always kept; 0 for all.
        eval_queries: Queries of each set at most; 0 for all.
        gate: How much of the FP32 model's quality must be kept on every set.
        pooling: Overrules the model's own; None keeps it.
        normalize: Overrules the model's own; None keeps it.
        max_tokens: Overrules the model's own limit, special tokens included; None keeps it.
        cpu: CPUs that the bundle may be served on; VNNI gives quantized weights their eighth bit.
        force: Whether a bundle that is there already is replaced.
    """

    model: str
    out: Path
    recipes: tuple[Recipe, ...]
    eval_data: tuple[Path, ...] = ()
    eval_documents: int = 0
    eval_queries: int = 0
    gate: Gate = field(default_factory=Gate)
    pooling: Pooling | None = None
    normalize: bool | None = None
    max_tokens: int | None = None
    cpu: Cpu = Cpu.ANY
    search: bool = False
    force: bool = False

    def __post_init__(self) -> None:
        check_cpu_choice(self.cpu)
        if min(self.eval_documents, self.eval_queries) < 0:
            raise BuildError("eval-documents and eval-queries count what is kept: give 0 for all, or more")


def check_cpu_choice(cpu: Cpu) -> None:
    """Refuses to build for CPUs whose vectors this one cannot compute.

    Raises:
        BuildError: Bundles for VNNI are asked for, and this CPU has none.
    """
    if cpu is Cpu.VNNI and not exact_here():
        raise BuildError(
            "--cpu vnni needs a CPU with VNNI or AMX to build on, and this one has neither: its 8-bit "
            "products overflow, and the quality of other vectors would be measured; give --cpu any"
        )
