"""Recipes: how the FP32 graph becomes the graph that is served, as data.

A recipe's settings are part of a bundle's fingerprint. To add one, add a row to `RECIPES`.
"""

from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

from build_models.errors import BuildError
from worker.cpu_flags import CPU_SETTING, Cpu

# Eight signed bits overflow the 16-bit sums of x86 CPUs without VNNI, unless they are paired; seven cannot.
_SAFE_BITS = 7
_FLOAT_BITS = 32
# Measured on texts of three sets with all-MiniLM-L6-v2: .5 is best with one scale a token, .7 with calibrated
# ones, and this is as good for both.
_MIGRATION = 0.6


class Activations(StrEnum):
    """How activations become integers; see `graphs.activations`."""

    FLOAT = "float"  # not at all
    DYNAMIC = "dynamic"  # one scale a tensor, found at run time: each text must run alone
    STATIC = "static"  # one scale a tensor, from calibration
    TOKEN = "token"  # noqa: S105  one scale a token, found at run time
    BLOCKS = "blocks"  # as the kernel for weights in blocks does it
    BOUNDED = "bounded"  # STATIC behind normalizations, which bound what any text can bring; TOKEN elsewhere


@dataclass(frozen=True)
class Recipe:
    """One way to make the served graph.

    Attributes:
        name: What the command line calls it.
        summary: One line for people.
        activations: How activations become integers.
        weight_bits: Bits of a quantized weight, one scale a column; 32 keeps weights as they are.
        paired_weights: Whether 8-bit weights are limited in pairs, so that no x86 CPU overflows.
        migration: Share of the activations' range that is moved into the weights, 0 to 1; see
            `graphs.migrate`.
        fused_attention: Whether attention without a mask is one operator.
        quantized_tables: Whether embedding tables are 8-bit integers, one scale a row.
        merged_projections: Whether matrices that read one tensor, as Q, K and V do, are one.
        approximate_gelu: Whether Gelu has its tanh form.
        fused_norms: Whether the sum in front of a normalization is part of it.
        float_groups: Names of the multiplications that stay as they are, because they cost too much quality.
        cpu: CPUs that the graph may run on; see `for_cpu`.
    """

    name: str
    summary: str
    activations: Activations = Activations.FLOAT
    weight_bits: int = _FLOAT_BITS
    paired_weights: bool = False
    migration: float = 0.0
    fused_attention: bool = True
    quantized_tables: bool = False
    merged_projections: bool = False
    approximate_gelu: bool = False
    fused_norms: bool = False
    float_groups: tuple[str, ...] = ()
    cpu: Cpu = Cpu.ANY

    @property
    def quantized(self) -> bool:
        """Whether the graph must run integer kernels."""
        return self.weight_bits < _FLOAT_BITS

    @property
    def changes_graph(self) -> bool:
        """Whether the served graph is another than the lean one."""
        forms = (self.fused_attention, self.quantized_tables, self.approximate_gelu, self.fused_norms)
        return self.quantized or any(forms)

    @property
    def calibrated(self) -> bool:
        """Whether the graph depends on what activations look like on real texts."""
        return self.migration > 0 or self.activations in (Activations.STATIC, Activations.BOUNDED)

    @property
    def invariant(self) -> bool:
        """Whether texts that share a tensor leave each other's vectors as they are, rounding aside."""
        return self.activations is not Activations.DYNAMIC

    def for_cpu(self, cpu: Cpu) -> "Recipe":
        """Returns the recipe for a kind of CPU: eight whole bits a weight where no sum overflows."""
        if cpu is Cpu.ANY or not (self.paired_weights or self.weight_bits == _SAFE_BITS):
            return self
        return replace(self, weight_bits=_SAFE_BITS + 1, paired_weights=False, cpu=cpu)

    def settings(self) -> dict[str, Any]:
        """Returns every setting that decides a vector, for the manifest and the fingerprint."""
        unsaid = {"summary"} if self.cpu is not Cpu.ANY else {"summary", CPU_SETTING}
        settings = asdict(self) | {"float_groups": list(self.float_groups)}  # as JSON gives it back
        return {key: value for key, value in settings.items() if key not in unsaid}


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="int8",
            summary="8-bit weights; activations with one calibrated scale where a normalization bounds them, "
            "one scale a token elsewhere",
            activations=Activations.BOUNDED,
            weight_bits=8,
            paired_weights=True,
            migration=_MIGRATION,
            quantized_tables=True,
        ),
        Recipe(
            name="int8-token",
            summary="as int8, with one scale a token everywhere: the most exact, and a little slower",
            activations=Activations.TOKEN,
            weight_bits=8,
            paired_weights=True,
            migration=_MIGRATION,
            quantized_tables=True,
        ),
        Recipe(
            name="int8-static",
            summary="as int8, with calibrated scales everywhere: the fastest",
            activations=Activations.STATIC,
            weight_bits=8,
            paired_weights=True,
            migration=_MIGRATION,
            quantized_tables=True,
        ),
        Recipe(
            name="int8-dynamic",
            summary="7-bit weights; activations with one scale a tensor, found at run time",
            activations=Activations.DYNAMIC,
            weight_bits=_SAFE_BITS,
        ),
        Recipe(
            name="int8-weights",
            summary="8-bit weights in blocks, activations almost whole: nearest to FP32, slow without VNNI",
            activations=Activations.BLOCKS,
            weight_bits=8,
        ),
        Recipe(
            name="fp32-fused",
            summary="nothing quantized, attention as one operator",
        ),
        Recipe(
            name="fp32",
            summary="nothing quantized: what the others are made of and compared with",
            fused_attention=False,
        ),
    )
}
FP32 = RECIPES["fp32"]


AUTO = "auto"
# Short for lists of recipes: `fast` is what measured best wherever it was tried, then what is safer.
_LISTS = {
    AUTO: tuple(recipe.name for recipe in RECIPES.values()),
    "fast": ("int8", "int8-token", "fp32-fused"),
}


def parse_recipes(names: str) -> tuple[Recipe, ...]:
    """Returns the recipes of a comma-separated list, in its order, or of the lists `auto` and `fast`.

    Raises:
        BuildError: An unknown or repeated name, or none at all.
    """
    named = [name.strip() for name in names.split(",") if name.strip()]
    wanted = list(_LISTS.get(names.strip(), named))
    unknown = [name for name in wanted if name not in RECIPES]
    if unknown or not wanted:
        raise BuildError(
            f"unknown recipe {', '.join(unknown) or repr(names)}; "
            f"choose from {', '.join((*_LISTS, *RECIPES))}"
        )
    if len(set(wanted)) != len(wanted):
        raise BuildError(f"recipes {names!r} name one twice; give each once")
    return tuple(RECIPES[name] for name in wanted)
