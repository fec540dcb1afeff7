"""Recipes: how the FP32 graph becomes the graph that is served, as data.

A recipe's settings are part of a bundle's fingerprint. To add one, add a row to `RECIPES`.
"""

from dataclasses import asdict, dataclass, replace
from typing import Any

from build_models.errors import BuildError
from worker.cpu_flags import CPU_SETTING, Cpu

# Eight signed bits overflow the 16-bit sums of x86 CPUs without VNNI; seven cannot.
_SAFE_BITS = 7


@dataclass(frozen=True)
class Recipe:
    """One way to make the served graph.

    Attributes:
        name: What the command line calls it.
        summary: One line for people.
        weight_bits: Bits of a quantized weight; 32 keeps weights as they are.
        per_channel: Whether each output channel of a weight has a scale of its own.
        dynamic_activations: Whether activations are quantized with one scale a tensor, found at run time.
            Texts that share a tensor then change each other's vectors, so each text runs alone.
        cpu: CPUs that the graph may run on; see `for_cpu`.
        migration: Share of the activations' range that is moved into the weights, 0 to 1; see `migrate`.
    """

    name: str
    summary: str
    weight_bits: int
    per_channel: bool
    dynamic_activations: bool
    migration: float = 0.0
    cpu: Cpu = Cpu.ANY

    @property
    def quantized(self) -> bool:
        """Whether the graph must run integer kernels."""
        return self.weight_bits < 32

    def for_cpu(self, cpu: Cpu) -> "Recipe":
        """Returns the recipe for a kind of CPU: eight bits a weight where no sum overflows."""
        if cpu is Cpu.ANY or self.weight_bits != _SAFE_BITS:
            return self
        return replace(self, weight_bits=_SAFE_BITS + 1, cpu=cpu)

    def settings(self) -> dict[str, Any]:
        """Returns every setting that decides a vector, for the manifest and the fingerprint."""
        unsaid = {"summary"} if self.cpu is not Cpu.ANY else {"summary", CPU_SETTING}
        return {key: value for key, value in asdict(self).items() if key not in unsaid}


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="int8-dynamic",
            summary="MatMul weights as 7-bit integers, one scale a channel; activations scaled at run time",
            # Eight signed bits overflow the 16-bit sums of x86 CPUs without VNNI; seven cannot, so that the
            # same text gets the same integers on every CPU.
            weight_bits=7,
            per_channel=True,
            dynamic_activations=True,
        ),
        Recipe(
            name="int8-migrated",
            summary="int8-dynamic, large activations moved into the weights first, by docstrings",
            weight_bits=7,
            per_channel=True,
            dynamic_activations=True,
            # Measured on two sets: queries stay nearest to FP32's at .8, documents are as near as at .7.
            migration=0.8,
        ),
        Recipe(
            name="fp32",
            summary="the exported model with its operators fused, nothing quantized",
            weight_bits=32,
            per_channel=False,
            dynamic_activations=False,
        ),
    )
}
FP32 = RECIPES["fp32"]


def parse_recipes(names: str) -> tuple[Recipe, ...]:
    """Returns the recipes of a comma-separated list, in its order.

    Raises:
        BuildError: An unknown or repeated name, or none at all.
    """
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    unknown = [name for name in wanted if name not in RECIPES]
    if unknown or not wanted:
        raise BuildError(
            f"unknown recipe {', '.join(unknown) or repr(names)}; choose from {', '.join(RECIPES)}"
        )
    if len(set(wanted)) != len(wanted):
        raise BuildError(f"recipes {names!r} name one twice; give each once")
    return tuple(RECIPES[name] for name in wanted)
